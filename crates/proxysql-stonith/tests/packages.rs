//! What the packages install fits the program and the tree. `.ci/release` builds and checks the packages themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proxysql_stonith::config::keys::{CONFIG_FILE, SECTIONS, STATE_DIR};

const CONFIG: &str = "contrib/package/proxysql-stonith.toml";
const UNIT: &str = "contrib/systemd/proxysql-stonith.service";
const POSTINST: &str = "contrib/package/debian/postinst";
const POSTRM: &str = "contrib/package/debian/postrm";
const PRE_INSTALL: &str = "contrib/package/rpm/pre-install.sh";
const POST_INSTALL: &str = "contrib/package/rpm/post-install.sh";

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(in_tree(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The packaged config as an administrator fills it in, with a password file that the test can read.
fn config_check(config: &str) -> (String, i32) {
    let desk = tempfile::tempdir().unwrap();
    let [password, file] = ["password", "config"].map(|name| desk.path().join(name));
    std::fs::write(&password, "secret\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = config.replace("\"/etc/proxysql-stonith.password\"", &format!("{:?}", password.display().to_string()));
    std::fs::write(&file, config).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    let done = program.env_clear().args(["config", "check", "--config"]).arg(file).output().unwrap();
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (text, done.status.code().unwrap())
}

#[test]
fn the_packaged_config_is_refused_until_the_endpoints_are_filled_in_and_then_observes() {
    let config = read(CONFIG);
    let (text, code) = config_check(&config);
    assert!(code == 2 && text.contains("orchestrator.endpoints"), "{text}");
    let (text, code) = config_check(&config.replace("#endpoints =", "endpoints ="));
    assert_eq!(code, 0, "{text}");
    assert!(text.lines().any(|line| line.starts_with("mode = \"observe\" # /")), "{text}");
}

/// The keys of each section of the packaged config with their values, commented or not.
fn packaged_keys() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found = BTreeMap::<String, BTreeMap<String, String>>::new();
    let mut section = String::new();
    for line in read(CONFIG).lines() {
        let setting = line.strip_prefix('#').unwrap_or(line);
        let is_header = setting.starts_with('[');
        if is_header {
            section = setting.trim_matches(['[', ']']).to_owned();
        }
        if let Some((name, value)) = setting.split_once(" = ").filter(|_| !is_header && !setting.starts_with(' ')) {
            let before = found.entry(section.clone()).or_default().insert(name.to_owned(), value.to_owned());
            assert!(before.is_none(), "[{section}] has {name} twice");
        }
    }
    found
}

#[test]
fn the_packaged_config_has_every_key_and_shows_the_defaults() {
    let mut packaged = packaged_keys();
    packaged.remove("aliases");
    let mut defaults = 0;
    for section in SECTIONS.iter().filter(|section| !section.keys.is_empty()) {
        let shown = packaged.remove(section.name).unwrap_or_else(|| panic!("[{}]", section.name));
        let names: BTreeSet<&str> = section.keys.iter().map(|key| key.name).collect();
        assert_eq!(shown.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "[{}]", section.name);
        for key in section.keys.iter().filter(|key| key.name != "mode") {
            if let Some(default) = key.default {
                defaults += 1;
                assert_eq!(shown[key.name], (key.takes.in_file)(default).unwrap(), "{}", key.full_name());
            }
        }
    }
    assert!(packaged.is_empty(), "no such sections: {packaged:?}");
    assert!(defaults > 15, "control: {defaults}");
}

/// A file that a package installs: where it is in the tree, and where it goes.
type Asset = (String, String);

fn metadata() -> toml::Table {
    let manifest: toml::Table = read("crates/proxysql-stonith/Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"].as_table().unwrap().clone()
}

fn deb_assets() -> Vec<Asset> {
    let metadata = metadata();
    let assets = metadata["deb"]["assets"].as_array().unwrap().iter();
    let text = |value: &toml::Value| value.as_str().unwrap().trim_start_matches("../../").to_owned();
    assets.map(|asset| (text(&asset[0]), format!("/{}", text(&asset[1])))).collect()
}

fn rpm_assets() -> Vec<Asset> {
    let metadata = metadata();
    let assets = metadata["generate-rpm"]["assets"].as_array().unwrap().iter();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    assets.map(|asset| (text(&asset["source"]), text(&asset["dest"]))).collect()
}

#[test]
fn every_file_that_a_package_takes_exists() {
    let scripts = ["pre_install", "post_install", "pre_uninstall", "post_uninstall"];
    let metadata = metadata();
    let scripts = scripts.map(|name| metadata["generate-rpm"][format!("{name}_script")].as_str().unwrap().to_owned());
    let assets = [deb_assets(), rpm_assets()].concat().into_iter().map(|(source, _)| source);
    let mut seen = 0;
    // What is below target is made by `.ci/release`.
    for source in assets.chain(scripts).filter(|source| !source.starts_with("target/")) {
        let path = in_tree(&source);
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let (begin, end) = name.split_once('*').unwrap_or((name, ""));
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_it = |entry: &String| match name.contains('*') {
            true => entry.starts_with(begin) && entry.ends_with(end),
            false => entry == name,
        };
        assert!(names.filter(is_it).count() > 0, "{source}");
        seen += 1;
    }
    assert!(seen > 15, "control: {seen}");
}

#[test]
fn both_packages_have_the_same_files() {
    // The unit goes into the .deb by `systemd-units`, and each distribution has its own place for zsh.
    let zsh = |path: String| path.replace("/vendor-completions/", "/site-functions/");
    let deb: BTreeSet<Asset> = deb_assets().into_iter().map(|(source, to)| (source, zsh(to))).collect();
    let mut rpm: BTreeSet<Asset> = rpm_assets().into_iter().collect();
    assert!(rpm.remove(&(UNIT.to_owned(), "/usr/lib/systemd/system/".to_owned())), "{rpm:?}");
    assert_eq!(deb, rpm);
    let deb = metadata()["deb"]["systemd-units"].clone();
    let folder = deb["unit-scripts"].as_str().unwrap().trim_start_matches("../../");
    assert_eq!(format!("{folder}/{}.service", deb["unit-name"].as_str().unwrap()), UNIT);
}

#[test]
fn the_unit_the_config_and_the_scripts_name_the_paths_and_the_user_that_the_packages_make() {
    let unit = read(UNIT);
    let of_unit = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}"))
    };
    let (folder, name) = of_unit("ExecStart").split(' ').next().unwrap().rsplit_once('/').unwrap();
    assert!(deb_assets().contains(&(format!("target/release/{name}"), format!("{folder}/"))), "{folder}/{name}");
    let config = CONFIG_FILE.about.unset.split(' ').next().unwrap();
    assert_eq!(config, format!("/etc/{}", CONFIG.rsplit('/').next().unwrap()));
    let state = STATE_DIR.about.default.unwrap();
    assert_eq!(state, format!("/var/lib/{}", of_unit("StateDirectory")));
    let user = of_unit("User");
    for script in [POSTINST, PRE_INSTALL, POST_INSTALL] {
        assert!(read(script).contains(user), "{script} does not name {user}");
    }
    let config = packaged_keys();
    let password = config["proxysql"]["password_file"].trim_matches('"').to_owned();
    for script in [POSTINST, POSTRM, POST_INSTALL] {
        let text = read(script);
        assert!(text.contains(state) && text.contains(&password), "{script} does not name {state} and {password}");
    }
}

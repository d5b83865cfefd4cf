//! How the modules of the workspace depend on each other: in no circle, and in core in no tower.
//!
//! Each folder is looked at by itself: its modules are the nodes, and an import anywhere below one of them is an edge. A
//! module may use its own parent, of which it is a part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::Path;

/// The longest chain of imports between core's top-level modules.
const CHAIN_MAX: usize = 9;

type Module = Vec<String>;
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A crate's modules, each with its source without its tests.
struct Crate {
    sources: BTreeMap<Module, String>,
}

impl Crate {
    fn read(name: &str) -> Self {
        let mut of_crate = Self { sources: BTreeMap::new() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        of_crate.read_folder(&source, &Module::new());
        assert!(of_crate.sources.len() > 5, "{name}");
        of_crate
    }

    fn read_folder(&mut self, folder: &Path, module: &Module) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let inner = [module.clone(), vec![name.clone()]].concat();
            if name == "tests" || name == "main" {
                continue;
            }
            if path.is_dir() {
                self.read_folder(&path, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_root = matches!(name.as_str(), "lib" | "mod");
                let text = without_tests_and_comments(&read_to_string(&path).unwrap());
                self.sources.insert(if is_root { module.clone() } else { inner }, text);
            }
        }
    }

    /// The module that an import really comes from: a name that a module re-exports is its child's.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut at, rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                (from[..from.len().checked_sub(supers)?].to_vec(), &path[supers..])
            }
            first => {
                let child = [from.clone(), vec![first.to_owned()]].concat();
                (self.sources.contains_key(&child).then_some(child)?, &path[1..])
            }
        };
        for part in rest {
            let child = [at.clone(), vec![part.clone()]].concat();
            if self.sources.contains_key(&child) {
                at = child;
                continue;
            }
            let exported = imports(self.sources.get(&at)?, "pub use ").into_iter().find(|one| one.last() == Some(part));
            return match exported.filter(|exported| exported.len() > 1) {
                Some(exported) => self.resolve(&at, &exported[..exported.len() - 1]).or(Some(at)),
                None => Some(at),
            };
        }
        Some(at)
    }

    /// Who imports whom among the modules of one folder.
    fn graph(&self, folder: &Module) -> Graph {
        let mut graph = Graph::new();
        for (module, text) in &self.sources {
            let Some(from) = module.get(folder.len()).filter(|_| module.starts_with(folder)) else { continue };
            let of_it = graph.entry(from.clone()).or_default();
            let used = imports(text, "use ").into_iter().chain(inline(text));
            for target in used.filter_map(|path| self.resolve(module, &path)) {
                let to = target.get(folder.len()).filter(|_| target.starts_with(folder));
                of_it.extend(to.filter(|to| *to != from).cloned());
            }
        }
        graph
    }

    fn folders(&self) -> BTreeSet<Module> {
        self.sources
            .keys()
            .filter(|module| !module.is_empty())
            .map(|module| module[..module.len() - 1].to_vec())
            .collect()
    }
}

fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths of all statements that begin so.
fn imports(text: &str, begin: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in text.match_indices(begin) {
        let is_word = text[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_');
        let Some(end) = text[at..].find(';').filter(|_| is_word) else { continue };
        leaves(&text[at + begin.len()..at + end], &[], &mut paths);
    }
    paths
}

/// The paths of a tree of imports.
fn leaves(tree: &str, prefix: &[String], into: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, inner) = tree.split_once('{').map_or((tree, None), |(head, inner)| (head, inner.rsplit_once('}')));
    let head = head.split(" as ").next().unwrap();
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let path: Vec<String> = prefix.iter().cloned().chain(parts).collect();
    let Some((inner, _)) = inner else { return into.push(path) };
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[begin..at].trim().is_empty() {
                    leaves(&inner[begin..at], &path, into);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths from the crate's root in the midst of code.
fn inline(text: &str) -> Vec<Vec<String>> {
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let paths = text.match_indices("crate::").map(|(at, _)| text[at..].split(|c| !is_path(c)).next().unwrap());
    paths.map(|path| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()).collect()
}

/// The longest chain that begins with each module; a circle is said instead.
fn chains(graph: &Graph) -> Result<BTreeMap<&str, Vec<&str>>, String> {
    let mut chains = BTreeMap::new();
    for module in graph.keys() {
        chain(graph, module, &mut Vec::new(), &mut chains)?;
    }
    Ok(chains)
}

fn chain<'g>(
    graph: &'g Graph,
    module: &'g str,
    above: &mut Vec<&'g str>,
    done: &mut BTreeMap<&'g str, Vec<&'g str>>,
) -> Result<Vec<&'g str>, String> {
    if let Some(known) = done.get(module) {
        return Ok(known.clone());
    }
    if above.contains(&module) {
        return Err(format!("{} -> {module}", above.join(" -> ")));
    }
    above.push(module);
    let mut longest = Vec::new();
    for next in graph.get(module).into_iter().flatten() {
        let below = chain(graph, next, above, done)?;
        if below.len() > longest.len() {
            longest = below;
        }
    }
    above.pop();
    longest.insert(0, module);
    done.insert(module, longest.clone());
    Ok(longest)
}

#[test]
fn no_module_of_the_workspace_imports_in_a_circle() {
    let mut circles = Vec::new();
    for name in ["core", "proxysql-stonith", "lab"] {
        let of_crate = Crate::read(name);
        for folder in of_crate.folders() {
            let found = chains(&of_crate.graph(&folder)).err();
            circles.extend(found.map(|circle| format!("{name} {}: {circle}", folder.join("::"))));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn the_longest_chain_of_imports_in_core_is_short() {
    let graph = Crate::read("core").graph(&Module::new());
    assert!(graph["decide"].contains("plan") && !graph["plan"].contains("decide"), "imports are seen: {graph:?}");
    let longest = chains(&graph).unwrap().into_values().max_by_key(Vec::len).unwrap();
    assert!(longest.len() <= CHAIN_MAX, "{}: {}", longest.len(), longest.join(" -> "));
}

#[test]
fn a_circle_is_found() {
    let edges = |pairs: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in pairs {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(chains(&edges(&[("a", "b"), ("b", "c"), ("c", "a")])).unwrap_err(), "a -> b -> c -> a");
    let straight = edges(&[("a", "b"), ("b", "c"), ("a", "c")]);
    assert_eq!(chains(&straight).unwrap()["a"], ["a", "b", "c"]);
}

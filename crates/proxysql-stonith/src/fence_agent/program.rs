//! Runs a fence agent: one action, without a shell, in a process group of its own, for a bounded time and output.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use stonith_core::node::Node;
use stonith_core::node_fence::power::{Action, Ran};

use crate::config::{FenceAgentConfig, INPUT_MAX_BYTES, read_whole_file};
use crate::secret::Secret;
use crate::untrusted_text::one_line;

/// What an agent finds in its environment beside `LC_ALL=C`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most bytes of an output that are kept.
const OUTPUT_MAX_BYTES: usize = 16 * 1_024;

/// How often it is looked whether the agent has ended.
const LOOK_EACH: Duration = Duration::from_millis(10);

/// One run of an agent.
#[derive(Debug)]
struct Run {
    program: PathBuf,
    input: Secret,
    secrets: Vec<Secret>,
    timeout: Duration,
}

/// Runs one action of an agent for a node. The agent is killed if this is dropped.
pub async fn run(agent: &FenceAgentConfig, node: &Node, action: Action) -> Ran {
    let run = match Run::new(agent, node, action) {
        Ok(run) => run,
        Err(why) => return Ran::NotStarted(why),
    };
    let stops = Arc::new(AtomicBool::new(false));
    let _stops = StopsWhenDropped(stops.clone());
    let ended = tokio::task::spawn_blocking(move || run.to_its_end(&stops)).await;
    ended.unwrap_or_else(|error| Ran::NotStarted(error.to_string()))
}

struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Run {
    fn new(agent: &FenceAgentConfig, node: &Node, action: Action) -> Result<Self, String> {
        let mut input = format!("action={}\n", action.word());
        let mut secrets = Vec::new();
        // Whoever asks what it is needs no parameters.
        if action != Action::Metadata {
            for (name, value) in agent.parameters_of(node) {
                input.push_str(&format!("{name}={value}\n"));
            }
            for (name, path) in &agent.secret_files {
                let secret = read_whole_file(path, "secret").map_err(|error| error.to_string())?;
                if secret.expose().contains(char::is_control) {
                    return Err(format!("{} has more than one line", path.display()));
                }
                input.push_str(&format!("{name}={}\n", secret.expose()));
                secrets.push(secret);
            }
        }
        match input.len() > INPUT_MAX_BYTES {
            true => Err(format!("its parameters have more than {INPUT_MAX_BYTES} bytes")),
            false => {
                Ok(Self { program: agent.program.clone(), input: Secret::new(input), secrets, timeout: agent.timeout })
            }
        }
    }

    fn to_its_end(&self, stops: &AtomicBool) -> Ran {
        let begun = Instant::now();
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ran::NotStarted(one_line(&error.to_string())),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A pipe takes it at once. An agent that does not read it has ended, or fails without it.
            let _ = stdin.write_all(self.input.expose().as_bytes());
        }
        let (mut output, mut errors) = (Kept::of(child.stdout.take()), Kept::of(child.stderr.take()));
        loop {
            let is_over = begun.elapsed() >= self.timeout || stops.load(Ordering::Relaxed);
            let ended = child.try_wait();
            output.read();
            errors.read();
            match ended {
                Ok(Some(status)) => {
                    let (output, errors) = (self.shown(&output.bytes), self.shown(&errors.bytes));
                    let last = |text: &str| text.lines().rfind(|line| !line.trim().is_empty()).map(one_line);
                    let error = last(&errors).or_else(|| last(&output)).unwrap_or_default();
                    return Ran::Exited { code: status.code(), output, error };
                }
                Ok(None) if !is_over => std::thread::sleep(LOOK_EACH),
                _ => {
                    kill(&mut child);
                    return Ran::TimedOut;
                }
            }
        }
    }

    /// The output without the secrets, which an agent may repeat.
    fn shown(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.expose(), "***"))
    }
}

fn kill(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    if let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL) {
        tracing::error!("a fence agent cannot be killed: {error}");
    }
    let _ = child.wait();
}

/// The end of a pipe that is read without waiting: a process that the agent left may keep it open.
struct Kept<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + AsFd> Kept<P> {
    fn of(pipe: Option<P>) -> Self {
        let set = |pipe: &P| {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)
        };
        Self { pipe: pipe.filter(|pipe| set(pipe).is_ok()), bytes: Vec::new() }
    }

    /// Reads what is there, and keeps the last of it.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4_096];
        for _ in 0..64 {
            match pipe.read(&mut buffer) {
                Ok(count) if count > 0 => self.bytes.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let surplus = self.bytes.len().saturating_sub(OUTPUT_MAX_BYTES);
        self.bytes.drain(..surplus);
    }
}

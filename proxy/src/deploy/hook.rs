//! Runs commands: the only place where the proxy starts a process.
//!
//! A command is a program and its arguments, never a line for a shell, so nothing in a value can become a command. It
//! has its own process group, which is ended as a whole: asked first, then forced. Its output is read to the end, and
//! only the end of it is kept. What it leaves running when it exits by itself is what it was meant to start, and stays.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::Path,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::OnceLock,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tidegate_core::deploy::machine::{HookCall, HookEnd, HookReport, Process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Output that is kept of a command: enough for the end of a log, and little enough to be written down.
const MAX_OUTPUT: usize = 64 * 1024;
/// Bytes of it that are told with a failure.
const SHOWN: usize = 500;
/// Time between two looks at a group that is being ended.
const LOOK: Duration = Duration::from_millis(25);
/// How long the system may take to remove processes that it was told to kill.
const REMOVAL: Duration = Duration::from_secs(5);

/// How long a command gets to do what it is asked for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// To end after it was asked to.
    ending: Duration,
    /// To close its output after it has exited: who it left running may keep it open for ever.
    closing: Duration,
}

const PATIENCE: Patience = Patience { ending: Duration::from_secs(10), closing: Duration::from_secs(1) };

/// Names of our own secrets in the environment. One set for the process, as the environment is.
static HIDDEN: OnceLock<Vec<String>> = OnceLock::new();

/// Keeps these variables from every command. Only the first call counts: it belongs to the start of the process.
pub(crate) fn hide(names: Vec<String>) {
    let _ = HIDDEN.set(names);
}

/// A program to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    /// The program and its arguments.
    pub(crate) argv: &'a [String],
    /// What is added to our own environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// What it reads; `None`: nothing.
    pub(crate) input: Option<&'a [u8]>,
    /// How long it may run.
    pub(crate) timeout: Duration,
}

/// Runs a command of a deployment until it ends, its time is over, or `kill` becomes true. Says when its process runs.
pub(crate) async fn run(
    call: &HookCall,
    started: impl FnOnce(Process) + Send,
    kill: watch::Receiver<bool>,
) -> HookReport {
    let program = Program { argv: &call.hook.argv, env: &call.env, input: None, timeout: call.hook.timeout };
    execute(program, started, kill).await
}

/// Runs a program until it ends, its time is over, or `kill` becomes true. Says when its process runs.
pub(crate) async fn execute(
    program: Program<'_>,
    started: impl FnOnce(Process) + Send,
    kill: watch::Receiver<bool>,
) -> HookReport {
    execute_with(program, PATIENCE, started, kill).await
}

async fn execute_with(
    program: Program<'_>,
    patience: Patience,
    started: impl FnOnce(Process) + Send,
    kill: watch::Receiver<bool>,
) -> HookReport {
    if *kill.borrow() {
        return HookReport { end: HookEnd::Killed, output: String::new() };
    }
    let Running { mut child, output, group } = match start(&program) {
        Ok(running) => running,
        Err(why) => return HookReport { end: HookEnd::NotStarted(why), output: String::new() },
    };
    started(Process { group, started: status(group).map_or(0, |(_, since)| since) });
    let mut tail = Tail::default();
    let end = {
        let feeding = feed(child.stdin.take(), program.input);
        let mut talk = pin!(async { tokio::join!(feeding, tail.read(output)) });
        let mut living = pin!(live(&mut child, group, program.timeout, patience, kill));
        tokio::select! {
            end = &mut living => {
                // What it left running may hold its output open.
                let _ = timeout(patience.closing, talk).await;
                end
            }
            _ = &mut talk => living.await,
        }
    };
    HookReport { end, output: tail.into_text() }
}

struct Running {
    child: Child,
    output: pipe::Receiver,
    group: u32,
}

/// Starts a program. The error is for people.
fn start(program: &Program<'_>) -> Result<Running, String> {
    let Some((name, arguments)) = program.argv.split_first() else {
        return Err("there is no program: write one into the command".into());
    };
    let failed = |error: io::Error| not_started(name, &error);
    let (output, input) = io::pipe().map_err(failed)?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(failed)?;
    let mut command = Command::new(name);
    command.args(arguments).process_group(0);
    command.stdin(if program.input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(input.try_clone().map_err(failed)?).stderr(input);
    for hidden in HIDDEN.get().into_iter().flatten() {
        command.env_remove(hidden);
    }
    command.envs(program.env);
    let child = command.spawn().map_err(failed)?;
    let group = child.id().ok_or_else(|| format!("{name} ended before it could be watched"))?;
    // `command` goes with its ends of the pipe here: only the processes hold it now.
    Ok(Running { child, output, group })
}

fn not_started(name: &str, error: &io::Error) -> String {
    // A path that is there but "not found" is a script whose interpreter is not.
    let there = name.contains('/') && Path::new(name).exists();
    match error.kind() {
        ErrorKind::NotFound if there => format!("the interpreter of {name} was not found: correct its first line (#!)"),
        ErrorKind::NotFound => format!("program {name} was not found: install it, or write its whole path"),
        ErrorKind::PermissionDenied => format!("{name} is not executable for this process: chmod +x {name}"),
        ErrorKind::InvalidInput => format!("{name}: an argument or variable cannot be passed on: {error}"),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            format!("{name} is no program: begin a script with #!/bin/sh")
        }
        _ => format!("{name}: {error}"),
    }
}

/// Gives a program its input. One that does not read it, or not all of it, may have its reasons.
async fn feed(stdin: Option<ChildStdin>, input: Option<&[u8]>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(input).await;
    }
}

/// Waits until the process ends, and sees to it that it does.
async fn live(
    child: &mut Child,
    group: u32,
    time: Duration,
    patience: Patience,
    mut kill: watch::Receiver<bool>,
) -> HookEnd {
    let killed = async {
        if kill.wait_for(|kill| *kill).await.is_err() {
            // Nobody is left who could want it.
            std::future::pending::<()>().await;
        }
    };
    let cut = tokio::select! {
        status = child.wait() => return how(status),
        () = killed => HookEnd::Killed,
        () = sleep(time) => HookEnd::TimedOut,
    };
    let _ = tokio::join!(timeout(patience.ending + REMOVAL, child.wait()), end_group(group, patience.ending));
    cut
}

fn how(status: io::Result<ExitStatus>) -> HookEnd {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => HookEnd::Exit(code),
            (None, signal) => HookEnd::Signal(signal.unwrap_or_default()),
        },
        Err(error) => HookEnd::NotStarted(format!("nothing is known of its end: {error}")),
    }
}

/// Ends the group of a process of an earlier life of the proxy, if it is still that process.
pub(crate) async fn end(process: Process) {
    end_with(process, PATIENCE).await;
}

async fn end_with(process: Process, patience: Patience) {
    if process.started != 0 && running_since(process.group) == Some(process.started) {
        end_group(process.group, patience.ending).await;
    }
}

/// Why a command did not do what it was asked for, with the end of what it printed; `None`: it did.
pub(crate) fn failure(report: &HookReport) -> Option<String> {
    if report.end == HookEnd::Exit(0) {
        return None;
    }
    let from = report.output.len().saturating_sub(SHOWN);
    let from = (from..report.output.len()).find(|at| report.output.is_char_boundary(*at)).unwrap_or(0);
    let tail = report.output.get(from..).unwrap_or_default().trim();
    Some(if tail.is_empty() { report.end.to_string() } else { format!("{}: {tail}", report.end) })
}

/// Asks a group to end, waits until it has, and forces what is left of it.
async fn end_group(group: u32, patience: Duration) {
    let Some(group) = i32::try_from(group).ok().filter(|group| *group > 1).map(Pid::from_raw) else { return };
    let until = Instant::now() + patience;
    let mut alive = killpg(group, Signal::SIGTERM);
    while alive != Err(Errno::ESRCH) {
        if Instant::now() >= until {
            // Nothing is left to be done where the system refuses it.
            let _ = killpg(group, Signal::SIGKILL);
            return;
        }
        sleep(LOOK).await;
        alive = killpg(group, None);
    }
}

/// When a process that still runs began, in ticks since the system did.
fn running_since(process: u32) -> Option<u64> {
    // A zombie has ended, and only waits for somebody to take note of it.
    status(process).filter(|(state, _)| *state != "Z").map(|(_, since)| since)
}

/// The state of a process, and when it began.
fn status(process: u32) -> Option<(String, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.to_owned();
    // The state is the third field, and the time the 22nd.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The end of what a command printed.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    cut: bool,
}

impl Tail {
    async fn read(&mut self, mut output: pipe::Receiver) {
        let mut chunk = vec![0; 16 * 1024];
        // An error is the end of it, too.
        while let Ok(read @ 1..) = output.read(&mut chunk).await {
            self.push(chunk.get(..read).unwrap_or_default());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        // Moving the rest to the front once per 64 KiB is cheap, and bounds what is held to twice that.
        if self.kept.len() > 2 * MAX_OUTPUT {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let over = self.kept.len().saturating_sub(MAX_OUTPUT);
        if over > 0 {
            self.kept.drain(..over);
            self.cut = true;
        }
    }

    fn into_text(mut self) -> String {
        self.shorten();
        // The cut may have gone through a character.
        let torn = if self.cut { self.kept.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count() } else { 0 };
        let text = String::from_utf8_lossy(self.kept.get(torn..).unwrap_or_default());
        // Each byte that is no text becomes three.
        let mut from = text.len().saturating_sub(MAX_OUTPUT);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.get(from..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests;

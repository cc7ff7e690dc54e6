//! Real processes, well and ill behaved.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Mutex};

use tempfile::TempDir;
use tokio::sync::watch::Sender;

use super::*;

/// Short waits, so that the tests of those who do not end are short too.
const SHORT: Patience = Patience { ending: Duration::from_millis(300), closing: Duration::from_millis(100) };
const LONG: Duration = Duration::from_secs(30);

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

/// A command in the making, in a directory of its own.
struct Case {
    dir: TempDir,
    env: BTreeMap<String, String>,
    timeout: Duration,
    kill: Sender<bool>,
}

impl Case {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), env: BTreeMap::new(), timeout: LONG, kill: watch::channel(false).0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, argv: &[&str]) -> (HookReport, Option<Process>) {
        let argv = words(argv);
        let program = Program { argv: &argv, env: &self.env, input: None, timeout: self.timeout };
        let began = Mutex::new(None);
        let report = execute_with(program, SHORT, |p| *began.lock().unwrap() = Some(p), self.kill.subscribe()).await;
        (report, began.into_inner().unwrap())
    }

    /// Runs a script with the directory as its first argument.
    async fn script(&self, text: &str) -> HookReport {
        let dir = self.dir.path().to_str().unwrap();
        self.run(&["/bin/sh", "-c", text, "sh", dir]).await.0
    }

    /// Runs a script, and wants its end when it has made the file `self`.
    async fn ended_script(&self, text: &str) -> HookReport {
        let stop = async {
            while !self.path("self").exists() {
                sleep(Duration::from_millis(5)).await;
            }
            self.kill.send_replace(true);
        };
        tokio::join!(self.script(text), stop).0
    }

    fn ended(&self, name: &str) -> bool {
        let pid: u32 = fs::read_to_string(self.path(name)).unwrap().trim().parse().unwrap();
        running_since(pid).is_none()
    }
}

fn report(end: HookEnd, output: &str) -> HookReport {
    HookReport { end, output: output.into() }
}

#[tokio::test]
async fn a_command_ends_as_it_says_and_both_its_outputs_are_kept_in_order() {
    let case = Case::new();
    let got = case.script("echo one; echo two >&2; echo three; exit 75").await;
    assert_eq!(got, report(HookEnd::Exit(75), "one\ntwo\nthree\n"));
    assert_eq!(case.script("kill -USR1 $$").await.end, HookEnd::Signal(10));
}

#[tokio::test]
async fn a_deployments_command_is_run_with_its_environment() {
    let step = serde_json::json!({
        "role": "start", "argv": ["/bin/sh", "-c", "echo $TIDEGATE_VERSION"], "service": "web", "target": "green",
        "version": {"name": "2"}, "previous": null, "timeout": {"secs": 30, "nanos": 0}, "idempotent": true,
        "on_failure": "fail",
    });
    let env = [("TIDEGATE_VERSION".to_owned(), "2".to_owned())].into();
    let call = HookCall { hook: serde_json::from_value(step).unwrap(), env };
    let (_sender, kill) = watch::channel(false);
    assert_eq!(run(&call, |_| {}, kill).await, report(HookEnd::Exit(0), "2\n"));
}

#[tokio::test]
async fn values_stay_text_whatever_they_hold() {
    let mut case = Case::new();
    let evil = format!("$(touch {0}) `touch {0}`; touch {0}\n'\"*", case.path("x").display());
    case.env.insert("TIDEGATE_IMAGE".into(), evil.clone());
    let (got, _) = case.run(&["/usr/bin/printenv", "TIDEGATE_IMAGE"]).await;
    assert_eq!(got, report(HookEnd::Exit(0), &format!("{evil}\n")));
    let (got, _) = case.run(&["/bin/echo", &evil]).await;
    assert_eq!(got, report(HookEnd::Exit(0), &format!("{evil}\n")));
    assert!(!case.path("x").exists());
}

#[tokio::test]
async fn nobody_waits_for_input_that_never_comes() {
    assert_eq!(Case::new().run(&["/bin/cat"]).await.0, report(HookEnd::Exit(0), ""));
}

#[tokio::test]
async fn input_is_passed_on_and_need_not_be_read() {
    let input = vec![b'x'; 1 << 20];
    let (_sender, kill) = watch::channel(false);
    for (argv, output) in [(["/usr/bin/wc", "-c"], "1048576\n"), (["/bin/echo", "no"], "no\n")] {
        let argv = words(&argv);
        let program = Program { argv: &argv, env: &BTreeMap::new(), input: Some(&input), timeout: LONG };
        let got = execute_with(program, SHORT, |_| {}, kill.clone()).await;
        assert_eq!(got, report(HookEnd::Exit(0), output));
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_everything_it_started() {
    let mut case = Case::new();
    case.timeout = Duration::from_secs(2);
    let got = case.script("sleep 60 & echo $! > $1/child; echo $$ > $1/self; echo begun; sleep 60; true").await;
    assert_eq!(got, report(HookEnd::TimedOut, "begun\n"));
    assert!(case.ended("child") && case.ended("self"));
}

#[tokio::test]
async fn a_command_that_does_not_listen_is_forced() {
    let case = Case::new();
    let script = "trap '' TERM; echo $$ > $1/new; mv $1/new $1/self; while :; do sleep 1; done";
    let got = case.ended_script(script).await;
    assert_eq!(got.end, HookEnd::Killed);
    assert!(case.ended("self"));
}

#[tokio::test]
async fn a_command_that_cleans_up_when_asked_has_time_for_it() {
    let case = Case::new();
    let got = case.ended_script("trap 'echo cleaned; exit 0' TERM; touch $1/self; while :; do sleep 0.01; done").await;
    assert!(got.end == HookEnd::Killed && got.output.ends_with("cleaned\n"), "{got:?}");
}

#[tokio::test]
async fn a_command_that_is_not_needed_any_more_is_ended() {
    let case = Case::new();
    let got = case.ended_script("echo $$ > $1/new; mv $1/new $1/self; sleep 60; true").await;
    assert_eq!(got.end, HookEnd::Killed);
    assert!(case.ended("self"));
    assert_eq!(case.run(&["/bin/echo"]).await, (report(HookEnd::Killed, ""), None), "it is not even begun");
}

#[tokio::test]
async fn what_a_command_leaves_running_stays_and_does_not_hold_it_up() {
    let case = Case::new();
    let begun = Instant::now();
    let got = case.script("sleep 60 & echo $! > $1/child; echo up").await;
    assert_eq!(got, report(HookEnd::Exit(0), "up\n"));
    assert!(begun.elapsed() < Duration::from_secs(20), "it holds the pipe for a minute");
    assert!(!case.ended("child"));
    let pid: i32 = fs::read_to_string(case.path("child")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn of_endless_output_the_end_is_kept() {
    let mut case = Case::new();
    case.timeout = Duration::from_millis(500);
    let got = case.script("while :; do echo 0123456789abcde; done").await;
    assert_eq!((got.end, got.output.len()), (HookEnd::TimedOut, MAX_OUTPUT));

    case.timeout = LONG;
    let got = case.script("head -c 1000000 /dev/zero | tr '\\0' x; echo end").await;
    assert_eq!((got.end, got.output.len()), (HookEnd::Exit(0), MAX_OUTPUT));
    assert!(got.output.ends_with("xend\n"));
}

#[test]
fn what_is_held_of_output_is_bounded() {
    let mut tail = Tail::default();
    for _ in 0..10_000 {
        tail.push(&[b'x'; 1000]);
        assert!(tail.kept.len() <= 2 * MAX_OUTPUT + 1000);
    }
}

#[test]
fn output_that_is_no_text_is_shown_as_far_as_it_is_and_never_torn() {
    let text = |bytes: &[u8]| {
        let mut tail = Tail::default();
        bytes.chunks(7).for_each(|chunk| tail.push(chunk));
        tail.into_text()
    };
    assert_eq!(text(b"a\xff\x00b"), "a\u{fffd}\0b");
    assert!(text(&[0xff; 200_000]).len() <= MAX_OUTPUT);
    let umlauts = text("xä".repeat(100_000).as_bytes());
    assert!(umlauts.len() <= MAX_OUTPUT && umlauts.chars().all(|c| c == 'x' || c == 'ä'));
    let odd = text(format!("{}{}", "ä".repeat(100_000), "x").as_bytes());
    assert!(odd.starts_with('ä') && odd.ends_with("äx"));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let case = Case::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = case.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let lost = file("lost", "#!/nonexistent/sh\n", 0o755);
    let data = file("data", "\u{1}\u{2}data", 0o755);
    for (argv, why) in [
        (vec![], "there is no program: write one into the command".to_owned()),
        (vec!["no-such-program"], "program no-such-program was not found: install it, or write its whole path".into()),
        (vec![&*plain], format!("{plain} is not executable for this process: chmod +x {plain}")),
        (vec![&*lost], format!("the interpreter of {lost} was not found: correct its first line (#!)")),
        (vec![&*data], format!("{data} is no program: begin a script with #!/bin/sh")),
    ] {
        let (got, process) = case.run(&argv).await;
        assert_eq!((got.end, process), (HookEnd::NotStarted(why), None));
    }
    let (got, _) = case.run(&["/bin/echo", "a\0b"]).await;
    assert!(matches!(&got.end, HookEnd::NotStarted(why) if why.contains("cannot be passed on")), "{got:?}");
}

#[tokio::test]
async fn a_group_of_an_earlier_life_is_ended_only_if_it_is_still_the_same() {
    let mut left = Command::new("/bin/sh").args(["-c", "sleep 60; true"]).process_group(0).spawn().unwrap();
    let group = left.id().unwrap();
    let (_, since) = status(group).unwrap();
    end_with(Process { group, started: since + 1 }, SHORT).await;
    end_with(Process { group, started: 0 }, SHORT).await;
    assert!(left.try_wait().unwrap().is_none(), "another process has this number now");
    let (ended, ()) = tokio::join!(left.wait(), end_with(Process { group, started: since }, SHORT));
    assert_eq!(ended.unwrap().signal(), Some(15));
    end_with(Process { group, started: since }, SHORT).await;
}

#[tokio::test]
async fn a_commands_process_is_told_as_it_can_be_found_again() {
    let case = Case::new();
    let (got, process) = case.run(&["/bin/sh", "-c", "echo $$; cut -d' ' -f22 /proc/$$/stat"]).await;
    let process = process.unwrap();
    assert_eq!(got.output, format!("{}\n{}\n", process.group, process.started));
}

#[tokio::test]
async fn our_own_secrets_are_kept_from_commands() {
    // Set for every test by cargo, and needed by none of these commands.
    hide(vec!["CARGO_PKG_NAME".into()]);
    let (got, _) = Case::new().run(&["/usr/bin/printenv", "CARGO_PKG_NAME"]).await;
    assert_eq!(got, report(HookEnd::Exit(1), ""));
    let (got, _) = Case::new().run(&["/usr/bin/printenv", "CARGO_PKG_VERSION"]).await;
    assert_eq!(got.end, HookEnd::Exit(0));
}

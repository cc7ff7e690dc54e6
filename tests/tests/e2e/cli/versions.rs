//! Versions from the command line: the session of Daeploy's guide, and marks of bad versions.

use tidegate_e2e::{Behaviour, Origin, Tidegate, get, until};

use super::{Ended, tidegate};

struct Bench {
    proxy: Tidegate,
    first: Origin,
    second: Origin,
}

/// A service `hello` whose first version does not run yet.
async fn bench() -> Bench {
    let (mut first, second) = (Origin::start("1.0.0").await, Origin::start("2.0.0").await);
    first.stop().await;
    let proxy = Tidegate::start(&format!(
        r#"
        [service.hello]
        routes = [{{ host = "*", path = "/" }}]
        stable = "v1"
        health = {{ path = "/health", interval = "1s" }}
        [service.hello.target.v1]
        endpoints = ["{}"]
        "#,
        first.address(),
    ))
    .await;
    Bench { proxy, first, second }
}

impl Bench {
    async fn tidegate(&self, line: &str) -> Ended {
        tidegate(self.proxy.dir(), &format!("http://{}", self.proxy.admin()), line).await
    }

    /// The versions that are listed: main marked, name, version, status.
    async fn ls(&self) -> Vec<String> {
        let listed = self.tidegate("ls hello").await;
        assert!(listed.out.starts_with("MAIN  NAME "), "{listed:?}");
        let row =
            |line: &str| line.split_whitespace().take_while(|word| *word != "Running").collect::<Vec<_>>().join(" ");
        listed.out.lines().skip(1).map(row).collect()
    }

    async fn answers(&self) -> String {
        get(self.proxy.public(), "/").await.unwrap().text()
    }
}

#[tokio::test]
async fn versions_are_deployed_assigned_and_killed_as_in_the_guide() {
    let mut bench = bench().await;
    let second = bench.second.address();
    // Its start command would do this.
    bench.first.revive().await;
    let main = bench.tidegate("deploy hello 1.0.0 ./hello --to v1").await;
    assert_eq!(main.code, 0, "{main:?}");
    assert!(main.out.contains("Running (since 20"), "{}", main.out);
    assert_eq!(bench.ls().await, ["* hello 1.0.0 running"]);

    let nowhere = bench.tidegate("deploy hello 2.0.0 ./hello").await;
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("--to: v1 is the only target"), "{}", nowhere.err);
    let line = format!("deploy hello 2.0.0 ./hello --to v2 --endpoint {second}");
    let shadow = bench.tidegate(&line).await;
    assert_eq!(shadow.code, 0, "{shadow:?}");
    assert_eq!(bench.ls().await, ["* hello 1.0.0 running", "hello 2.0.0 running"]);
    assert_eq!(bench.answers().await, "1.0.0");
    until("the shadow gets the request too", || async { (bench.second.count() > 0).then_some(()) }).await;

    let refused = bench.tidegate("kill hello 1.0.0 --yes").await;
    assert_eq!(refused.code, 1, "main has a shadow: {refused:?}");
    let assigned = bench.tidegate("assign hello 2.0.0 --yes").await;
    assert_eq!(assigned.code, 0, "{assigned:?}");
    assert!(assigned.out.starts_with("changed main version to hello 2.0.0\n"), "{}", assigned.out);
    assert_eq!(bench.ls().await, ["hello 1.0.0 running", "* hello 2.0.0 running"]);
    assert_eq!(bench.answers().await, "2.0.0");
    assert_eq!(bench.tidegate("kill hello 1.0.0").await.code, 0);
    assert_eq!(bench.ls().await, ["* hello 2.0.0 running"]);
    assert_eq!(bench.tidegate("ls").await.out, bench.tidegate("ls hello").await.out);

    // Main stays when it is killed, and goes on where no command stops it: nobody is told that it is dead.
    let nothing = bench.tidegate("kill hello --yes").await;
    assert_eq!(nothing.code, 1, "{nothing:?}");
    assert!(nothing.err.contains("service hello has no command that stops it"), "{}", nothing.err);
    assert_eq!(bench.ls().await, ["* hello 2.0.0 running"]);
    let nobody = bench.tidegate("assign hello 9.9.9 --yes").await;
    assert!(nobody.code == 1 && nobody.err.contains("\"9.9.9\""), "{nobody:?}");
}

#[tokio::test]
async fn a_bad_version_is_refused_until_the_mark_is_taken_away() {
    let mut bench = bench().await;
    bench.first.revive().await;
    let deploy = format!("deploy hello 2.0.0 ./hello --to v2 --endpoint {}", bench.second.address());
    let marked = bench.tidegate("bad hello 2.0.0 --reason \"loses carts\"").await;
    assert_eq!((marked.code, marked.out.as_str()), (0, "hello 2.0.0 is marked as bad\n"));
    let told = bench.tidegate("ls").await.out;
    assert!(told.contains("hello 2.0.0 is bad since ") && told.ends_with(": loses carts\n"), "{told}");
    let refused = bench.tidegate(&deploy).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("loses carts"), "{}", refused.err);
    assert_eq!(bench.tidegate("unbad hello 2.0.0").await.code, 0);
    assert_eq!(bench.tidegate("unbad hello 2.0.0").await.code, 1);
    assert!(!bench.tidegate("ls").await.out.contains("is bad"));
    bench.second.set_health(Behaviour::Status(500));
    let dry = bench.tidegate(&format!("{deploy} --dry-run")).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.contains("hello: v2 (1) healthy") && dry.out.contains("nothing was changed"), "{}", dry.out);
}

#[tokio::test]
async fn the_history_of_a_service_tells_how_its_health_changed() {
    let mut bench = bench().await;
    bench.first.revive().await;
    let known = || async {
        let history = bench.tidegate("history hello").await;
        assert_eq!(history.code, 0, "{history:?}");
        history.out.lines().any(|line| line.contains(" v1 ") && line.contains(" healthy ")).then_some(history.out)
    };
    let history = until("the first version is healthy", known).await;
    assert!(history.starts_with("WHEN "), "{history}");
    assert_eq!(bench.tidegate("history nosuch").await.code, 1);
}

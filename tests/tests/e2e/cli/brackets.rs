//! Brackets and stages from the command line: the session of Keptn's guide.

use tidegate_e2e::{Origin, Tidegate};

use super::{Ended, tidegate};

struct Bench {
    proxy: Tidegate,
    _origins: Vec<Origin>,
}

/// Stages `dev` and `hardening` of two services, each with green stable and blue free.
async fn bench() -> Bench {
    let mut origins = Vec::new();
    let mut config = r#"
        [stage.dev]
        next = "hardening"
        strategy = "blue-green"
        watch = "10ms"
        [stage.hardening]
        strategy = "blue-green"
        watch = "10ms"
        "#
    .to_owned();
    for stage in ["dev", "hardening"] {
        for service in ["foobar-frontend", "foobar-backend"] {
            let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
            config.push_str(&format!(
                "[service.\"{stage}.{service}\"]\nroutes = [{{ host = \"{service}.{stage}\", path = \"/\" }}]\n\
                 stable = \"green\"\nhealth = {{ path = \"/health\", interval = \"1s\" }}\n\
                 target.green.endpoints = [\"{}\"]\ntarget.blue.endpoints = [\"{}\"]\n",
                green.address(),
                blue.address()
            ));
            origins.extend([green, blue]);
        }
    }
    Bench { proxy: Tidegate::start(&config).await, _origins: origins }
}

impl Bench {
    async fn tidegate(&self, line: &str) -> Ended {
        tidegate(self.proxy.dir(), &format!("http://{}", self.proxy.admin()), line).await
    }

    async fn stable(&self, service: &str) -> String {
        self.proxy.service(service).await["stable"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn artifacts_are_brought_to_stages_as_in_the_guide() {
    let bench = bench().await;
    let dev = "trigger configuration-change --project=foo --service=foobar-backend --artifact foobar-backend:0.22.3.rc";
    let begun = bench.tidegate(&format!("{dev} --wait")).await;
    assert_eq!(begun.code, 0, "{begun:?}");
    assert_eq!(bench.stable("dev.foobar-backend").await, "blue");
    assert_eq!(bench.stable("dev.foobar-frontend").await, "green");

    // As the guide writes it: the first service has the second's name.
    let both = "trigger configuration-change --project=foo --stage=hardening --service=foobar-frontend --artifact \
                foobar-backend:0.22.3.rc --service=foobar-frontend --artifact foobar-frontend:0.9.42";
    let released = bench.tidegate(&format!("{both} --wait")).await;
    assert_eq!(released.code, 0, "{released:?}");
    assert!(released.err.contains("foobar-backend:0.22.3.rc is taken for foobar-backend"), "{}", released.err);
    for service in ["hardening.foobar-backend", "hardening.foobar-frontend"] {
        assert_eq!(bench.stable(service).await, "blue", "{service}");
    }
    let listed = bench.tidegate("deployment list --json").await.json();
    assert_eq!(listed[0]["members"].as_array().unwrap().len(), 2);
    let wrong = bench.tidegate("trigger configuration-change --stage nosuch --artifact a:1").await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("--stage: "), "{}", wrong.err);
    let unknown = bench.tidegate("trigger configuration-change --stage hardening --artifact moon:1").await;
    assert!(unknown.code == 1 && unknown.err.contains("declare it in [service.\"hardening.moon\"]"), "{unknown:?}");
}

#[tokio::test]
async fn services_wait_in_a_bracket_and_are_released_together() {
    let bench = bench().await;
    assert_eq!(bench.tidegate("bracket create spring --stage hardening").await.code, 0);
    let queue = "trigger configuration-change --stage hardening --artifact foobar-backend:2 --bracket spring";
    assert_eq!(bench.tidegate(queue).await.code, 0);
    let added = bench.tidegate("bracket add spring foobar-frontend --image foobar-frontend:2").await;
    assert!(added.out.contains("hardening.foobar-frontend foobar-frontend:2"), "{added:?}");
    let nowhere = bench.tidegate("bracket add spring foobar-frontend --to purple").await;
    assert!(nowhere.err.contains("--to: "), "{nowhere:?}");
    let plan = bench.tidegate("bracket release spring --dry-run").await;
    assert!(plan.out.contains("hardening.foobar-backend: blue=100; hardening.foobar-frontend: blue=100"), "{plan:?}");
    assert_eq!(bench.stable("hardening.foobar-frontend").await, "green");
    let released = bench.tidegate("bracket release spring --wait --json").await;
    assert_eq!((released.code, released.json()["state"].as_str()), (0, Some("succeeded")), "{released:?}");
    for service in ["hardening.foobar-backend", "hardening.foobar-frontend"] {
        assert_eq!(bench.stable(service).await, "blue", "{service}");
    }
    assert!(bench.tidegate("bracket get spring").await.out.starts_with("bracket spring  blue-green is released\n"));

    let wrong = bench.tidegate("bracket create summer --strategy canary --percentage 500").await;
    assert!(wrong.err.contains("--percentage: 500 %"), "{wrong:?}");
    assert_eq!(bench.tidegate("bracket create summer --strategy canary --percentage 50").await.code, 0);
    assert_eq!(bench.tidegate("bracket abort summer --reason \"no time\"").await.code, 0);
    assert_eq!(bench.tidegate("bracket release summer").await.code, 1);
    let listed = bench.tidegate("bracket list").await;
    assert!(listed.out.contains("summer   canary      aborted"), "{}", listed.out);
}

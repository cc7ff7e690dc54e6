//! Tests of variants: visitors who stay with theirs, who reach the goal or do not, and who decides then.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use tidegate_e2e::{Client, Origin, Sent, Tidegate, until};
use tokio::task::JoinHandle;

use super::{document, web};

/// Visitors who come one after the other, look, and buy as often as their variant makes them.
struct Visitors {
    leave: Arc<AtomicBool>,
    gone: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
    /// Which origin served each request of a visitor.
    seen: Arc<Mutex<BTreeMap<usize, Vec<String>>>>,
}

impl Visitors {
    /// Of the visitors of each origin, one in so many buys; 0: nobody.
    fn come(address: SocketAddr, one_in: &'static [(&'static str, usize)]) -> Self {
        let (leave, gone) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let seen = Arc::<Mutex<BTreeMap<usize, Vec<String>>>>::default();
        let task = |_| {
            let (leave, gone, seen) = (Arc::clone(&leave), Arc::clone(&gone), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                while !leave.load(Relaxed) {
                    let visitor = gone.fetch_add(1, Relaxed);
                    let mut ask = async |method: &str, target: &str| {
                        let request = Sent::new(method, target).field("x-user-id", format!("visitor-{visitor}"));
                        let answer = client.send(&request).await.unwrap();
                        assert_eq!(answer.status, 200);
                        let origin = answer.field("x-origin").unwrap().to_owned();
                        seen.lock().unwrap().entry(visitor).or_default().push(origin.clone());
                        origin
                    };
                    let origin = ask("GET", "/").await;
                    let (_, nth) = one_in.iter().find(|(name, _)| *name == origin).unwrap();
                    if *nth > 0 && visitor % nth == 0 {
                        ask("POST", "/buy").await;
                    }
                    ask("GET", "/bye").await;
                }
            })
        };
        Self { tasks: (0..4).map(task).collect(), leave, gone, seen }
    }

    async fn more(&self, visitors: usize) {
        let goal = self.gone.load(Relaxed) + visitors;
        until("more visitors came", || async { (self.gone.load(Relaxed) >= goal).then_some(()) }).await;
    }

    /// Which origins each visitor saw.
    async fn leave(self) -> BTreeMap<usize, Vec<String>> {
        self.leave.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// A test of so long, whose false winners are so rare.
fn test_of(duration: &str, alpha: f64) -> Value {
    document(
        "ab-testing",
        json!({
            "variant": ["name=blue,image=app:1,percentage=50", "name=green,image=app:2,percentage=50"],
            "duration": duration,
            "goal": { "name": "buy", "method": "POST", "path": "/buy", "status": "2xx" },
            "analyse": { "min_requests": 30, "alpha": alpha },
        }),
    )
}

async fn proxy(blue: &Origin, green: &Origin) -> Tidegate {
    Tidegate::start(&web(blue, green).replace("stable =", "sticky = { header = \"x-user-id\" }\nstable =")).await
}

#[tokio::test]
async fn a_variant_that_clearly_sells_more_wins_and_is_deployed() {
    let (blue, green) = (Origin::start_counting("blue").await, Origin::start_counting("green").await);
    let proxy = proxy(&blue, &green).await;
    let visitors = Visitors::come(proxy.public(), &[("blue", 20), ("green", 2)]);
    let id = proxy.deploy(test_of("3s", 0.01)).await;
    let over = proxy.reaches(&id, "succeeded").await;
    assert_eq!((&over["winner"], &over["verdicts"]["web"]["verdict"]), (&json!("green"), &json!("pass")), "{over:#}");
    assert_eq!(over["traffic"]["web"], json!({ "green": 100 }));
    let metrics = proxy.done("GET", &format!("/api/deployments/{id}/metrics?variant=green"), None).await;
    assert!(metrics["variants"][0]["conversions"].as_u64().unwrap() > 5, "{metrics:#}");
    visitors.more(20).await;
    let seen = visitors.leave().await;
    // A visitor changes sides at the beginning and at the end of the test, never within.
    let torn = seen.values().filter(|origins| origins.windows(2).any(|pair| pair[0] != pair[1])).count();
    assert!(torn <= 8, "{torn} of {} visitors saw two variants", seen.len());
    assert_eq!(proxy.service("web").await["stable"], "green");
}

#[tokio::test]
async fn a_test_without_a_winner_waits_for_a_person_who_selects_one() {
    let (blue, green) = (Origin::start_counting("blue").await, Origin::start_counting("green").await);
    let proxy = proxy(&blue, &green).await;
    let visitors = Visitors::come(proxy.public(), &[("blue", 4), ("green", 4)]);
    let id = proxy.deploy(test_of("1s", 1e-6)).await;
    let paused = proxy.reaches(&id, "paused").await;
    assert!(paused["paused"]["reason"].as_str().unwrap().starts_with("no winner"), "{paused:#}");
    assert_eq!(paused["traffic"]["web"], json!({ "blue": 50, "green": 50 }));
    let promoted = proxy.call("POST", &format!("/api/deployments/{id}/promote"), None).await;
    assert_eq!(promoted.status, 409, "{}", promoted.text());
    let select = |variant: &str| {
        let body = json!({ "variant": variant });
        let path = format!("/api/deployments/{id}/select-winner");
        let proxy = &proxy;
        async move { proxy.call("POST", &path, Some(body)).await }
    };
    assert_eq!(select("red").await.status, 422);
    assert_eq!(proxy.deployment(&id).await["state"], "paused");
    assert_eq!(select("green").await.status, 200);
    let over = proxy.reaches(&id, "succeeded").await;
    assert_eq!((&over["winner"], &over["traffic"]["web"]), (&json!("green"), &json!({ "green": 100 })));
    visitors.leave().await;
}

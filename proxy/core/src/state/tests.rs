//! The form of what is persisted: a change of it must read what older versions wrote.

use tidegate_config::FailbackMode;

use super::*;
use crate::change::{
    Change,
    fixtures::{World, mirror, mirror_to, split, target, web},
};

const GOLDEN: &str = r#"{
  "generation": 7,
  "services": {
    "web": {
      "file": {
        "stable": "green",
        "split": {
          "green": 10000
        },
        "targets": {
          "blue": {
            "endpoints": [
              {
                "address": "10.0.1.1:80",
                "weight": 1
              }
            ]
          },
          "green": {
            "endpoints": [
              {
                "address": "10.0.0.1:80",
                "weight": 1
              },
              {
                "address": "10.0.0.2:80",
                "weight": 1
              }
            ]
          },
          "v3": {
            "endpoints": [
              {
                "address": "10.0.2.1:80",
                "weight": 1
              }
            ]
          }
        },
        "mirrors": {},
        "drained": [],
        "salt": "",
        "hold": "off"
      },
      "wanted": {
        "stable": "green",
        "split": {
          "blue": 3750,
          "green": 6250
        },
        "targets": {
          "blue": {
            "endpoints": [
              {
                "address": "10.0.1.1:80",
                "weight": 1
              }
            ]
          },
          "green": {
            "endpoints": [
              {
                "address": "10.0.0.1:80",
                "weight": 1
              },
              {
                "address": "10.0.0.2:80",
                "weight": 1
              }
            ]
          },
          "v3": {
            "endpoints": [
              {
                "address": "10.0.2.1:80",
                "weight": 1
              }
            ]
          }
        },
        "mirrors": {
          "audit": {
            "to": "blue",
            "percent": 10000,
            "methods": [
              "GET"
            ],
            "max_body": 65536,
            "compare": false,
            "ignore": [],
            "remove_headers": [],
            "set_headers": {}
          }
        },
        "drained": [
          "v3"
        ],
        "salt": "",
        "hold": "off"
      },
      "overlay": {
        "from": "green",
        "to": "blue",
        "share": 10000,
        "cause": "operator",
        "since_unix_ms": 1700000000000
      }
    }
  }
}"#;

fn changed() -> State {
    let mut world = World::web(FailbackMode::Manual);
    for change in [
        Change::Split { service: web(), split: split(&[("green", 62.5), ("blue", 37.5)]) },
        Change::PutMirror { service: web(), mirror: mirror("audit"), spec: mirror_to("blue") },
        Change::Drain { service: web(), target: target("v3") },
        Change::Failover { service: web(), to: target("blue") },
    ] {
        world.apply(&change);
    }
    world.state.generation = Generation(7);
    world.state
}

#[test]
fn the_document_is_this_one() {
    assert_eq!(serde_json::to_string_pretty(&Saved::of(&changed())).unwrap(), GOLDEN);
}

#[test]
fn the_document_reads_back_as_what_was_written() {
    assert_eq!(serde_json::from_str::<Saved>(GOLDEN).unwrap(), Saved::of(&changed()));
}

#[test]
fn fields_that_have_a_natural_default_may_be_absent() {
    let wanted: Wanted = serde_json::from_str(
        r#"{"stable": "green", "split": {"green": 10000}, "targets": {"green": {"endpoints": []}}}"#,
    )
    .unwrap();
    assert!(wanted.mirrors.is_empty() && wanted.drained.is_empty() && wanted.salt.is_empty());
}

#[test]
fn a_split_that_does_not_sum_is_not_read() {
    let text = GOLDEN.replace("3750", "3751");
    let error = serde_json::from_str::<Saved>(&text).unwrap_err();
    assert!(error.to_string().contains("weights sum to 100.01 %"), "{error}");
}

#[test]
fn a_service_that_is_as_the_file_declares_is_not_written() {
    let world = World::web(FailbackMode::Manual);
    assert!(Saved::of(&world.state).services.is_empty());
    assert_eq!(Saved::of(&changed()).services.len(), 1);
}

#[test]
fn a_failover_that_a_restart_forgets_is_not_written_and_one_that_it_keeps_is() {
    for (failback, written) in [(FailbackMode::Restart, 0), (FailbackMode::Manual, 1), (FailbackMode::Auto, 1)] {
        let mut world = World::web(failback);
        world.apply(&Change::Failover { service: web(), to: target("blue") });
        assert_eq!(Saved::of(&world.state).services.len(), written, "{failback:?}");
    }
}

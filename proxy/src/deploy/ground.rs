//! What deployments need of the configuration: commands, and stages. Read anew when the file was loaded again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tidegate_config::{Config, ServiceId};
use tidegate_core::deploy::{Environment, stage::Stages};

use super::environments::{environments, stages};

/// What a configuration says about deployments.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    /// How the services' environments are handled.
    pub(crate) environments: BTreeMap<ServiceId, Environment>,
    /// The stages.
    pub(crate) stages: Arc<Stages>,
    /// The names of commands.
    pub(crate) hooks: BTreeSet<String>,
}

impl Ground {
    fn of(config: &Config) -> Self {
        // A file whose stages have problems is not loaded.
        let stages = stages(config).unwrap_or_default();
        let hooks = config.hooks.keys().map(ToString::to_string).collect();
        Self { environments: environments(config), stages: Arc::new(stages), hooks }
    }
}

/// The ground that the configuration in force makes.
pub(crate) struct Grounds {
    config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    last: Mutex<(Arc<Config>, Arc<Ground>)>,
}

impl Grounds {
    /// Follows a configuration that may be loaded again.
    pub(crate) fn new(config: impl Fn() -> Arc<Config> + Send + Sync + 'static) -> Self {
        let now = config();
        let ground = Arc::new(Ground::of(&now));
        Self { config: Box::new(config), last: Mutex::new((now, ground)) }
    }

    /// The configuration now.
    pub(crate) fn config(&self) -> Arc<Config> {
        (self.config)()
    }

    /// The ground now.
    pub(crate) fn now(&self) -> Arc<Ground> {
        let config = self.config();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&last.0, &config) {
            let ground = Arc::new(Ground::of(&config));
            *last = (config, ground);
        }
        Arc::clone(&last.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [service.web]
        routes = [{ host = "*", path = "/" }]
        stable = "green"
        stop = "down"
        [service.web.target.green]
        endpoints = ["127.0.0.1:3001"]
        [hook.down]
        argv = ["compose", "down"]
    "#;

    fn config(more: &str) -> Arc<Config> {
        Arc::new(tidegate_config::parse(&format!("{FILE}{more}")).unwrap())
    }

    #[test]
    fn a_configuration_that_is_loaded_again_makes_another_ground() {
        let configs = Arc::new(Mutex::new(config("")));
        let read = Arc::clone(&configs);
        let grounds = Grounds::new(move || Arc::clone(&read.lock().unwrap()));
        let before = grounds.now();
        assert!(Arc::ptr_eq(&before, &grounds.now()));
        assert!(before.environments["web"].hooks.stop.is_some() && before.hooks.contains("down"));
        *configs.lock().unwrap() = config("[stage.dev]\nstrategy = \"canary\"\n");
        assert!(before.stages.is_empty() && grounds.now().stages.contains_key("dev"));
    }
}

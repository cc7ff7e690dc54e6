//! Which versions are under test, and by which names they are reached.

use std::collections::BTreeMap;

use super::{Deployment, Engine, State};
use crate::{
    deploy::{plan::Member, stage::BracketState},
    preview::{Label, Place, Preview, Previews, UnderTest},
};

/// Deployments of a service that succeeded and whose names go on to lead to their services: the one that it runs by, and
/// the one that it may be taken back to. Environments were started with these names in their hands.
const REMEMBERED: usize = 2;

impl Engine {
    /// All previews there should be.
    pub fn previews(&self) -> Previews {
        let mut previews = Previews::new();
        let mut remembered = BTreeMap::new();
        // Names grow with time, and the latest deployments count.
        for deployment in self.deployments.values().rev() {
            let preview = match deployment.state {
                _ if deployment.is_active() => of(deployment),
                State::Succeeded => {
                    let mut recent = false;
                    for member in &deployment.plan.members {
                        let count = remembered.entry(&member.service).or_insert(0);
                        *count += 1;
                        recent |= *count <= REMEMBERED;
                    }
                    if !recent {
                        continue;
                    }
                    Preview::default()
                }
                _ => continue,
            };
            for label in self.labels(deployment) {
                previews.entry(label).or_insert_with(|| preview.clone());
            }
        }
        previews
    }

    /// The name that a deployment's commands are told: that of its bracket, if it has one that a host can hold.
    pub fn preview_label(&self, deployment: &Deployment) -> Option<Label> {
        self.labels(deployment).next()
    }

    /// The names of a deployment's preview, its bracket's first.
    fn labels(&self, deployment: &Deployment) -> impl Iterator<Item = Label> {
        let brackets = self.brackets.values().filter(|bracket| match &bracket.state {
            BracketState::Releasing { deployment: id } | BracketState::Released { deployment: id } => {
                *id == deployment.id
            }
            BracketState::Open | BracketState::Aborted { .. } => false,
        });
        let names = brackets.map(|bracket| bracket.name.as_str()).chain([deployment.id.as_str()]);
        names.filter_map(|name| Label::new(name).ok()).collect::<Vec<_>>().into_iter()
    }
}

fn of(deployment: &Deployment) -> Preview {
    let part = |member: &Member| {
        let takes_a_place =
            member.in_place() && (member.previous.is_some() || deployment.spec.strategy.works_in_place());
        // Variants of a test stand beside the old version, which is one of them.
        let beside: Vec<_> = member.to.iter().filter(|target| **target != member.from).cloned().collect();
        let targets = if beside.is_empty() { member.to.clone() } else { beside };
        let in_place = takes_a_place && targets.contains(&member.from);
        UnderTest { targets, place: if in_place { Place::InPlace } else { Place::Beside } }
    };
    let members = deployment.plan.members.iter().map(|member| (member.service.clone(), part(member)));
    Preview { members: members.collect() }
}

//! Brackets and stages: deployments that others lead to.

use std::sync::Arc;

use super::{Create, Decision, Draft, Engine, EngineError, World};
use crate::{
    deploy::{
        ids::DeploymentId,
        machine::{Command, Deployment, Input, Refusal, State, Write},
        spec::{DeploymentSpec, MemberSpec},
        stage::{Bracket, BracketState, Promotion, promotion},
    },
    state::Moment,
};

/// Brackets that are kept; the oldest that are over make room.
const MAX_BRACKETS: usize = 200;

impl Engine {
    /// Opens a bracket. `spec` says how its services are released; they may be added later.
    ///
    /// # Errors
    /// When there is one of this name that is not over.
    pub fn open_bracket(
        &self,
        name: String,
        spec: DeploymentSpec,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let is_over = |bracket: &Bracket| match bracket.state {
            BracketState::Open | BracketState::Releasing { .. } => false,
            BracketState::Released { .. } | BracketState::Aborted { .. } => true,
        };
        if self.brackets.get(&name).is_some_and(|bracket| !is_over(bracket)) {
            return Err(Refusal::Conflict(format!("there is a bracket {name} already")).into());
        }
        if self.brackets.len() >= MAX_BRACKETS && !self.brackets.contains_key(&name) {
            let over = self.brackets.values().filter(|bracket| is_over(bracket));
            let Some(oldest) = over.min_by_key(|bracket| bracket.created_unix_ms).map(|b| b.name.clone()) else {
                return Err(Refusal::Conflict(format!("{MAX_BRACKETS} brackets are open: abort some")).into());
            };
            draft.engine.brackets.remove(&oldest);
            draft.gone_brackets.push(oldest);
        }
        draft.put_bracket(Bracket { name, spec, state: BracketState::Open, created_unix_ms: now.unix_ms });
        Ok(draft.finish())
    }

    /// Queues services in a bracket.
    ///
    /// # Errors
    /// When the bracket does not exist, is not open, or has no room for all of them; then it has none of them.
    pub fn add_to_bracket(
        &self,
        name: &str,
        members: Vec<MemberSpec>,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let mut bracket = draft.bracket(name)?;
        for member in members {
            bracket.add(member)?;
        }
        draft.put_bracket(bracket);
        Ok(draft.finish())
    }

    /// Releases a bracket: creates its deployment and begins it.
    ///
    /// # Errors
    /// When the bracket is not open, or the deployment cannot begin; the bracket stays open then.
    pub fn release_bracket(
        &self,
        name: &str,
        id: DeploymentId,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let mut bracket = draft.bracket(name)?;
        let spec = bracket.release(id.clone())?;
        draft.put_bracket(bracket);
        draft.create(Create { id: id.clone(), spec, retry_of: None })?;
        draft.execute(&id)?;
        Ok(draft.finish())
    }

    /// Gives a bracket up; one that is being released is taken back by its deployment.
    ///
    /// # Errors
    /// When it does not exist, or is released already.
    pub fn abort_bracket(&self, name: &str, why: &str, world: World<'_>, now: Moment) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let mut bracket = draft.bracket(name)?;
        if let BracketState::Releasing { deployment } = &bracket.state {
            let begun = draft.get(deployment)?.is_active();
            let command = if begun { Command::Rollback } else { Command::Cancel };
            draft.step(deployment, Input::Command(command))?;
            return Ok(draft.finish());
        }
        bracket.abort(why)?;
        draft.put_bracket(bracket);
        Ok(draft.finish())
    }
}

impl Draft<'_> {
    fn bracket(&self, name: &str) -> Result<Bracket, Refusal> {
        let bracket = self.engine.brackets.get(name).map(|bracket| Bracket::clone(bracket));
        bracket.ok_or_else(|| Refusal::Unknown(format!("bracket {name}")))
    }

    fn put_bracket(&mut self, bracket: Bracket) {
        self.bracketed.push(bracket.name.clone());
        self.engine.brackets.insert(bracket.name.clone(), Arc::new(bracket));
        if self.write == Write::No {
            self.write = Write::Required;
        }
    }

    /// Lets the bracket that a deployment releases know how far it is.
    pub(super) fn follow(&mut self, deployment: &Deployment) {
        let followed = self.engine.brackets.values().find_map(|bracket| {
            let mut bracket = Bracket::clone(bracket);
            bracket.follow(deployment).then_some(bracket)
        });
        if let Some(bracket) = followed {
            self.put_bracket(bracket);
        }
    }

    /// Brings what succeeded to the next stage, if it goes there by itself.
    pub(super) fn promote(&mut self, id: &DeploymentId) {
        let Ok(done) = self.get(id) else { return };
        if done.state != State::Succeeded {
            return;
        }
        let Some(Promotion { stage, made }) = promotion(&done, self.world.stages) else { return };
        let begun = made.and_then(|(next, spec)| {
            self.create(Create { id: next.clone(), spec, retry_of: None }).map_err(|why| why.to_string())?;
            // Created, but not begun: it waits, and a person sees why.
            self.execute(&next).map_err(|why| format!("deployment {next} waits: {why}"))?;
            Ok(next)
        });
        let _ = self.step(id, Input::Promoted { stage, outcome: begun });
    }
}

//! Carries out what the deployment engine decides.
//!
//! An order, the outcome of an act, a report of health or the time comes to the [`shell`], a thread that owns the
//! engine. It lets the engine decide, writes the decision to the [`journal`], shows the new engine to those who read,
//! and has done what is to be done ([`act`]). What comes of it is the next input.

pub(crate) mod act;
pub(crate) mod desk;
mod drain;
pub(crate) mod environments;
pub(crate) mod evidence;
pub(crate) mod files;
pub(crate) mod ground;
pub(crate) mod hook;
mod ids;
pub(crate) mod journal;
mod kill;
pub(crate) mod orders;
pub(crate) mod previews;
pub(crate) mod shell;
pub(crate) mod sinks;
pub(crate) mod stacks;
pub(crate) mod tell;
mod verify;
pub(crate) mod watch;

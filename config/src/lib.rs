//! The configuration file of Tidegate: its schema, and the one parse that turns it into typed values.
//!
//! Never awaits, never reads a clock. Everything behind [`Config`] has been checked once, here;
//! no other crate validates again.

pub mod deploy;
pub mod describe;
pub mod endpoint;
pub mod flags;
pub mod ids;
pub mod matching;
mod parse;
pub mod problem;
pub mod server;
pub mod service;
pub mod split;

pub use deploy::{
    EnvironmentSpec, Events, FailoverHooks, HookSpec, HookUse, KeepOld, OnTimeout, SinkSpec, SinkTarget, StackMethod,
    StageSpec, Watch,
};
pub use describe::describe;
pub use endpoint::{EndpointAddress, EndpointSpec, Host, Scheme};
pub use flags::{
    Bucketing, FlagHeader, FlagSource, FlagSpec, FlagType, FlagValue, Flags, RedisAddress, RedisServer, RedisSource,
    RedisTls, SourceSpec, Words, Written,
};
pub use ids::{
    BracketId, FlagName, HookId, IdError, ListenerId, MirrorId, ServiceId, SinkId, SourceId, StageId, TargetId,
};
pub use matching::{FlagCondition, Match, RouteHost, RouteSpec, RuleSpec, TextMatch};
pub use parse::{parse, scalar::parse_duration, similar::closest};
pub use problem::{Problem, Problems};
pub use server::{
    AccessLog, Admin, AdminAddress, Config, Limits, Listener, Network, Role, Secret, SecretSource, Server, Tls, Token,
};
pub use service::{
    ActiveCheck, Expect, FailbackMode, FailoverPolicy, HealthPolicy, MirrorSpec, Probe, Retry, ServiceSpec, Sticky,
    TargetSpec, Timeouts,
};
pub use split::{Split, SplitError, Weight};

#[cfg(test)]
mod tests;

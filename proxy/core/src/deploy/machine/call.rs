//! What a command is told: its arguments filled in, and its variables. Whoever runs a command of a service tells it the
//! same.

use std::collections::BTreeMap;

use crate::deploy::step::HookStep;

/// A command, with everything that it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// The command; its arguments are complete.
    pub hook: HookStep,
    /// The environment that is added.
    pub env: BTreeMap<String, String>,
}

impl HookCall {
    /// A command that is told what it works on, and more.
    pub fn new(mut hook: HookStep, more: BTreeMap<String, String>) -> Self {
        let replica = hook.replica.map(|replica| replica.to_string());
        for argument in &mut hook.argv {
            *argument = argument.replace("{slot}", hook.target.as_str());
            *argument = argument.replace("{replica}", replica.as_deref().unwrap_or("0"));
        }
        let mut env = more;
        let about = [
            ("TIDEGATE_SERVICE", Some(hook.service.as_str())),
            ("TIDEGATE_TARGET", Some(hook.target.as_str())),
            ("TIDEGATE_SLOT", Some(hook.target.as_str())),
            ("TIDEGATE_ROLE", Some(hook.role.name())),
            ("TIDEGATE_VERSION", Some(hook.version.name.as_str())),
            ("TIDEGATE_IMAGE", hook.version.image.as_deref()),
            ("TIDEGATE_FINGERPRINT", hook.version.fingerprint.as_deref()),
            ("TIDEGATE_PREVIOUS", hook.previous.as_ref().map(|previous| previous.name.as_str())),
            ("TIDEGATE_REPLICA", replica.as_deref()),
        ];
        env.extend(about.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        Self { hook, env }
    }
}

/// A name as part of a variable's: upper case, `_` for everything but letters and digits.
pub fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_variable_has_only_letters_digits_and_underscores() {
        assert_eq!(variable("dev.my-app_2"), "DEV_MY_APP_2");
    }
}

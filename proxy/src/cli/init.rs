//! `tidegate init`: a commented configuration file to begin with.

use std::{fs::OpenOptions, io, io::Write as _};

use serde_json::json;

use crate::cli::{
    args::InitArgs,
    error::{CliError, Format},
    output,
};

/// The file that is written: an example that the configuration's own tests load.
const TEMPLATE: &str = include_str!("../../../config/examples/tidegate.toml");

/// Runs the verb.
pub(crate) fn run(args: &InitArgs, format: Format) -> Result<(), CliError> {
    write(args)?;
    let file = args.file.display();
    let text = match format {
        Format::Json => format!("{}\n", json!({ "written": args.file })),
        Format::Text => {
            format!(
                "wrote {file}: name your services in it, then\n  tidegate check -c {file}\n  tidegate serve -c {file}\n"
            )
        }
    };
    output::result(&text)?;
    Ok(())
}

fn write(args: &InitArgs) -> Result<(), CliError> {
    let file = args.file.display();
    let mut options = OpenOptions::new();
    options.write(true);
    // Without --force the system itself refuses a file that exists: no moment between looking and writing.
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(&args.file).and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Failed(format!("{file} exists; --force writes over it")),
        _ => CliError::Io { what: format!("cannot write {file}"), error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        tidegate_config::parse(TEMPLATE).unwrap();
    }

    #[test]
    fn a_file_that_exists_is_only_replaced_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, "mine").unwrap();

        let error = write(&InitArgs { file: file.clone(), force: false }).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

        write(&InitArgs { file: file.clone(), force: true }).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEMPLATE);
    }
}

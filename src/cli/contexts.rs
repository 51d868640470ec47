//! Contexts: servers by name, and which of them is meant where none is told. Kept in
//! `contexts.toml` in the user's configuration directory, or where
//! `TASKWATCH_CONTEXTS` says.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};
use serde::{Deserialize, Serialize};

use super::exit::Fault;

/// The file, read.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The one that is meant where none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) present: Option<String>,
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Context>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// Its address.
    pub(super) server: String,
}

impl Contexts {
    /// Reads the file; none is as good as an empty one.
    pub(super) fn load() -> Result<Self, Fault> {
        let path = path()?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Fault::usage(format!("{}: {error}", path.display()))),
        };
        let read = toml::from_str(&text);
        read.map_err(|error| Fault::usage(format!("{}: {error}", path.display())))
    }

    /// Writes the file: in whole, or not at all.
    pub(super) fn save(&self) -> Result<(), Fault> {
        let path = path()?;
        let failed = |why: &dyn std::fmt::Display| {
            Fault::failed(format!("cannot write {}: {why}", path.display()))
        };
        let text = toml::to_string_pretty(self).map_err(|e| failed(&e))?;
        let part = path.with_extension(format!("{}.part", std::process::id()));
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| failed(&e))?;
        fs::write(&part, text).map_err(|e| failed(&e))?;
        fs::rename(&part, &path).map_err(|e| failed(&e))
    }

    /// The server of a context.
    pub(super) fn server(&self, name: &str) -> Result<String, Fault> {
        self.contexts.get(name).map(|context| context.server.clone()).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = match &known[..] {
                [] => "there are none yet".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            Fault::usage(format!(
                "there is no context {name:?}, {known}; make it with: taskwatch context set {name} \
                 http://HOST:PORT"
            ))
        })
    }

    /// The server of the present context, where there is one.
    pub(super) fn present(&self) -> Result<Option<String>, Fault> {
        self.present.as_deref().map(|name| self.server(name)).transpose()
    }
}

fn path() -> Result<PathBuf, Fault> {
    if let Some(path) = env::var_os("TASKWATCH_CONTEXTS") {
        return Ok(path.into());
    }
    let strategy = choose_base_strategy()
        .map_err(|_| Fault::usage("there is no home directory: name the server with --server"))?;
    Ok(strategy.config_dir().join("taskwatch").join("contexts.toml"))
}

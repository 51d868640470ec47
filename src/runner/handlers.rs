//! Which kinds this server runs, and what runs them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Handler, demo, program::Program};
use crate::{
    config::{Config, ProgramConfig},
    domain::{EXTERNAL, Error, NAME_RULE, Name},
};

/// The kinds that a runner serves. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handlers {
    by_kind: BTreeMap<Name, Arc<dyn Handler>>,
}

impl Handlers {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// `demo`, and the programs of the configuration.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT that names the key of a program that cannot be run as it is
    /// written.
    pub fn builtin(config: &Config) -> Result<Self, Error> {
        let mut handlers = Self::none().with(demo::KIND, demo::run)?;
        for (kind, settings) in &config.kinds {
            if let Some(program) = &settings.program {
                handlers = handlers.with_program(kind, program)?;
            }
        }
        Ok(handlers)
    }

    /// With a program for one more kind.
    ///
    /// # Errors
    ///
    /// As for [`builtin`](Self::builtin) and [`with`](Self::with).
    pub fn with_program(self, kind: &str, program: &ProgramConfig) -> Result<Self, Error> {
        let program = Program::new(program)
            .map_err(|why| Error::invalid(format!("kinds.{kind}.command"), why))?;
        self.with(kind, program)
    }

    /// With a handler for one more kind; it takes the place of one that is there.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT where `kind` is no name, or `external`, whose tasks are run
    /// by their owners.
    pub fn with(mut self, kind: &str, handler: impl Handler) -> Result<Self, Error> {
        let name = Name::new(kind).ok_or_else(|| Error::invalid("kind", NAME_RULE))?;
        if kind == EXTERNAL {
            return Err(Error::invalid(
                "kind",
                "\"external\" has no handler: its tasks are run by their owners",
            ));
        }
        self.by_kind.insert(name, Arc::new(handler));
        Ok(self)
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Name> {
        self.by_kind.keys()
    }

    pub(super) fn get(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.by_kind.get(kind)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{HandlerError, Job},
        *,
    };

    async fn nothing(_job: Job) -> Result<serde_json::Value, HandlerError> {
        Ok(serde_json::Value::Null)
    }

    #[test]
    fn kinds_are_names_and_external_is_not_served() {
        let handlers = Handlers::none().with("a", nothing).expect("a name");
        assert_eq!(handlers.kinds().map(Name::as_str).collect::<Vec<_>>(), ["a"]);
        assert!(Handlers::none().with(EXTERNAL, nothing).is_err());
        assert!(Handlers::none().with("not a name", nothing).is_err());
    }
}

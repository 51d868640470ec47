//! What the program says about itself: structured logs on standard error. Knows
//! nothing of tasks.

use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, fmt::writer::BoxMakeWriter, layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// The variables that choose what is logged, the first one set wins.
const VARIABLES: [&str; 2] = ["TASKWATCH_LOG", "RUST_LOG"];

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that cannot be read.
    #[error("{variable}: {source}; write it as in \"info,taskwatch=debug\"")]
    Filter {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Somebody has set up logs already.
    #[error("logs are set up already")]
    Twice,
}

/// Begins to log to `writer`. `level` (`"info"`, `"warn"`) holds where neither
/// `TASKWATCH_LOG` nor `RUST_LOG` says anything; the database's own chatter then
/// begins at warnings.
///
/// # Errors
///
/// A filter that cannot be read, or logs that are set up already.
pub fn start(format: LogFormat, level: &str, writer: BoxMakeWriter) -> Result<(), TelemetryError> {
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = match format {
        // Colours only where a person looks at them.
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            layer.with_ansi(colours).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // For all layers: a filter of one layer loses the event that follows a mere
    // question whether something is logged, as the driver of PostgreSQL asks it.
    tracing_subscriber::registry()
        .with(filter(level)?)
        .with(layer)
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    for variable in VARIABLES {
        if let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) {
            return EnvFilter::try_new(text)
                .map_err(|source| TelemetryError::Filter { variable, source });
        }
    }
    Ok(EnvFilter::new(format!("{level},sqlx=warn,sea_orm=warn,sea_orm_migration=warn")))
}

//! A database for a test, of either sort.

#![allow(unused_imports, unused_macros)]

use tempfile::TempDir;

/// A fresh one, gone with the test.
pub struct Db {
    url: String,
    _folder: Option<TempDir>,
}

impl Db {
    /// In a file of its own.
    pub fn sqlite() -> Self {
        let folder = TempDir::new().expect("a directory");
        let url = format!("sqlite://{}/tasks.db", folder.path().display());
        Self { url, _folder: Some(folder) }
    }

    /// On the throw-away server.
    pub async fn postgres() -> Self {
        Self { url: super::postgres::database().await, _folder: None }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Runs each of these `async fn(Db)` as a test on SQLite and as one on PostgreSQL.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::db::Db::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::db::Db::postgres().await).await;
            })+
        }
    };
}
pub(crate) use on_both;

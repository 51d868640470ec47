//! The direction of imports: arrows point down only, as ARCHITECTURE.md draws them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{fs, path::Path};

/// What a room may not name. Whatever is not listed may be used.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "clock", "config", "store", "hub", "watch", "tasks", "runner", "rpc", "server", "cli",
            "client", "proto",
        ],
    ),
    (
        "store",
        &["hub", "watch", "tasks", "runner", "rpc", "server", "cli", "client", "proto", "config"],
    ),
    ("hub", &["store", "tasks", "runner", "rpc", "server", "cli", "client", "proto", "config"]),
    ("watch", &["tasks", "runner", "rpc", "server", "cli", "client", "proto"]),
    ("tasks", &["runner", "rpc", "server", "cli", "client", "proto"]),
    ("runner", &["rpc", "server", "cli", "client", "proto", "store"]),
    ("rpc", &["runner", "server", "cli", "client"]),
    ("client", &["domain", "store", "hub", "tasks", "runner", "rpc", "server"]),
];

/// Every file that the documents name is there.
#[test]
fn documents_name_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let in_code = text.split('`').skip(1).step_by(2);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = in_code.filter(|name| {
            ["src/", "tests/", "benches/", "examples/", "clients/"]
                .iter()
                .any(|room| name.starts_with(room))
        });
        for name in
            named.chain(links.filter(|link| !link.contains("://") && !link.starts_with('#')))
        {
            assert!(root.join(name).exists(), "{document} names {name}");
        }
    }
}

#[test]
fn arrows_point_down_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, forbidden) in FORBIDDEN {
        for entry in [source.join(room), source.join(format!("{room}.rs"))] {
            visit(&entry, &mut |path, text| {
                for (number, line) in text.lines().enumerate() {
                    let code = line.split("//").next().unwrap_or_default();
                    for other in *forbidden {
                        let named = |prefix: &str| {
                            code.match_indices(prefix).any(|(at, _)| {
                                !code[at + prefix.len()..]
                                    .starts_with(|c: char| c.is_alphanumeric() || c == '_')
                            })
                        };
                        // `crate::x`, and the first names inside `use crate::{x, …}`.
                        if named(&format!("crate::{other}")) || in_group(text, number, other) {
                            wrong.push(format!("{}:{}: {other}", path.display(), number + 1));
                        }
                    }
                }
            });
        }
    }
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

/// Whether this line of a `use crate::{ … }` group opens with that module.
fn in_group(text: &str, number: usize, module: &str) -> bool {
    let before: String = text.lines().take(number).map(|line| format!("{line}\n")).collect();
    let Some(start) = before.rfind("use crate::{") else { return false };
    let line = text.lines().nth(number).unwrap_or_default();
    !before[start..].contains(';')
        && line.strip_prefix("    ").is_some_and(|rest| {
            rest.strip_prefix(module).is_some_and(|rest| rest.starts_with([':', ',']))
        })
}

fn visit(path: &Path, see: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            visit(&entry.expect("an entry").path(), see);
        }
    } else if path.is_file()
        && path.extension().is_some_and(|extension| extension == "rs")
        && !path.to_string_lossy().ends_with("tests.rs")
    {
        see(path, &fs::read_to_string(path).expect("a source file"));
    }
}

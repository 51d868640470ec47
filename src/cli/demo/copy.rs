//! The program of the demo: copies a directory tree and tells how far it is, in
//! lines of JSON on standard output, as any program in any language would. Files
//! that are there already are passed over, so that a run that was cut goes on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::cli::{
    exit::{Exit, Fault},
    out,
};

/// Between two files, so that there is something to see.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(40);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CopyArgs {
    from: PathBuf,
    to: PathBuf,
}

/// Copies the tree.
pub(in crate::cli) fn copy(args: &CopyArgs) -> Result<Exit, Fault> {
    let from = &args.from;
    let files = files(from).map_err(|e| Fault::failed(format!("{}: {e}", from.display())))?;
    let mut bytes = 0;
    for (done, file) in files.iter().enumerate() {
        let name = file.display().to_string();
        tell(&json!({
            "completed_units": done, "total_units": files.len(), "unit": "files",
            "message": format!("copying {name}"),
        }))?;
        bytes += copy_file(&from.join(file), &args.to.join(file))
            .map_err(|e| Fault::failed(format!("{name}: {e}")))?;
        pause();
    }
    let count = files.len();
    tell(&json!({"completed_units": count, "total_units": count, "message": "copied"}))?;
    tell(
        &json!({"result": {"files": count, "bytes": bytes, "to": args.to.display().to_string()}}),
    )?;
    Ok(Exit::Done)
}

fn tell(line: &serde_json::Value) -> Result<(), Fault> {
    out::line(line.to_string())
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, with nothing else to do")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// The bytes of the file; it is there in whole or not at all.
fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    let size = fs::metadata(from)?.len();
    if fs::metadata(to).is_ok_and(|there| there.len() == size) {
        return Ok(size);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = to.with_extension("part");
    fs::copy(from, &part)?;
    fs::rename(part, to)?;
    Ok(size)
}

/// All files below `root`, in order, as paths from there.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            if entry.file_type()?.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a tree to copy: `dirs` directories of `files` files of `size` bytes each.
pub(super) fn make_tree(root: &Path, dirs: usize, files: usize, size: usize) -> io::Result<()> {
    let content = b"taskwatch ".repeat(size.div_ceil(10));
    for dir in 1..=dirs {
        let dir = root.join(format!("part-{dir:02}"));
        fs::create_dir_all(&dir)?;
        for file in 1..=files {
            fs::write(dir.join(format!("file-{file:02}.txt")), &content[..size])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_in_order_and_only_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        make_tree(&from, 2, 3, 25).expect("made");
        let found = files(&from).expect("listed");
        assert_eq!(found.len(), 6);
        assert_eq!(found[5], Path::new("part-02/file-03.txt"));
        for file in found.iter().chain(&found[..1]) {
            assert_eq!(copy_file(&from.join(file), &to.join(file)).expect("copied"), 25);
        }
        assert_eq!(files(&to).expect("listed"), found);
    }
}

//! Compiles the protos with protox, so that no installed `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "taskwatch/v1/task_service.proto",
        "taskwatch/v1/worker_service.proto",
        "google/longrunning/operations.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For reflection.
    fs::write(out.join("taskwatch.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Deterministic order, so that equal messages have equal bytes.
        .btree_map(".")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // Frames hold ready bytes: one encoding serves every watcher.
        .extern_path(".taskwatch.v1.WatchTaskResponse", "crate::proto::Frame")
        .extern_path(".taskwatch.v1.WatchTasksResponse", "crate::proto::Frame")
        // Their indented examples would be taken for doctests.
        .disable_comments(["google"])
        // Takes the memory that a message needs, not 8 KiB for each stream.
        .codec_path("crate::proto::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}

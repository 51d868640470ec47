package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "taskwatch.example/clients/taskwatchv1"
)

var delay = flag.Int("delay", 0, "milliseconds to rest after a MiB")

// hash turns a directory into {"files": n, "sha256": "..."}, a chain over the files in the
// order of their paths: link = SHA-256(link before + SHA-256(file) + path), the first one
// from 32 zero bytes. It goes on behind the checkpoint.
func (j *job) hash(ctx context.Context, top string, kept map[string]*structpb.Value) (*structpb.Value, error) {
	if at, err := os.Stat(top); err != nil || !at.IsDir() {
		return nil, status.Errorf(codes.InvalidArgument, "no such directory: %q", top)
	}
	var paths []string
	err := fs.WalkDir(os.DirFS(top), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	done, link := int(kept["done"].GetNumberValue()), make([]byte, 32)
	fmt.Sscanf(kept["sha256"].GetStringValue(), "%x", &link)
	for _, path := range paths[min(done, len(paths)):] {
		digest, err := j.hashFile(ctx, top+"/"+path)
		if err != nil {
			return nil, err
		}
		next := sha256.Sum256(slices.Concat(link, digest, []byte(path)))
		done, link = done+1, next[:]
		checkpoint, err := structpb.NewStruct(map[string]any{"done": done, "sha256": fmt.Sprintf("%x", link)})
		if err != nil {
			return nil, err
		}
		progress := &pb.Progress{CompletedUnits: int64(done), TotalUnits: int64(len(paths)), Unit: "files", Message: path}
		if err := j.report(ctx, progress, checkpoint); err != nil {
			return nil, err
		}
	}
	return structpb.NewValue(map[string]any{"files": done, "sha256": fmt.Sprintf("%x", link)})
}

// hashFile reads a file a MiB at a time, and reports that it does.
func (j *job) hashFile(ctx context.Context, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	digest := sha256.New()
	for {
		_, err := io.CopyN(digest, file, 1<<20)
		time.Sleep(time.Duration(*delay) * time.Millisecond)
		if stop := j.report(ctx, nil, nil); stop != nil {
			return nil, stop
		}
		if err == io.EOF {
			return digest.Sum(nil), nil
		} else if err != nil {
			return nil, err
		}
	}
}

package main

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "taskwatch.example/clients/taskwatchv1"
)

var errCancelled, errReleased = errors.New("cancelled"), errors.New("released")

// job is one task under its lease.
type job struct {
	client pb.WorkerServiceClient
	*pb.Lease
	beat time.Time
}

// report tells what there is to tell, and every third of the lease that the work lives.
// An error ends the work.
func (j *job) report(ctx context.Context, progress *pb.Progress, checkpoint *structpb.Struct) error {
	third := time.Duration(*seconds) * time.Second / 3
	for again := progress != nil; again || ctx.Err() != nil || time.Since(j.beat) > third; progress, checkpoint = nil, nil {
		report := &pb.ReportTasksRequest_Report{Name: j.Task.Name, LeaseToken: j.LeaseToken, Progress: progress, Checkpoint: checkpoint}
		request := &pb.ReportTasksRequest{Reports: []*pb.ReportTasksRequest_Report{report}}
		response, err := j.client.ReportTasks(context.WithoutCancel(ctx), request)
		if err == nil {
			err = status.ErrorProto(response.Answers[0].Error)
		}
		if err != nil {
			return err
		}
		j.beat, again = time.Now(), response.Answers[0].WantedState == pb.Task_PAUSED
		switch {
		case response.Answers[0].WantedState == pb.Task_CANCELLING:
			return errCancelled
		case ctx.Err() != nil:
			return errReleased
		case again:
			time.Sleep(min(third, time.Second))
		}
	}
	return nil
}

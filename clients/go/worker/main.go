// Command worker leases tasks of kind hash-files and runs them, one at a time. What it
// does for them stands in hash.go, how it tells of it in job.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "taskwatch.example/clients/taskwatchv1"
)

var (
	address = flag.String("address", "127.0.0.1:50051", "of the server")
	seconds = flag.Int("lease", 30, "seconds without a report")
)

// While the server is away, calls are tried again for as long as the lease may live.
const config = `{"methodConfig": [{"name": [{}], "waitForReady": true, "timeout": "%ds", "retryPolicy": {
	"maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
	"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}`

// run takes a task from its lease to its outcome. One that is no longer ours is refused.
func (j *job) run(ctx context.Context) {
	outcome := &pb.FinishTasksRequest_Outcome{Name: j.Task.Name, LeaseToken: j.LeaseToken}
	result, err := j.hash(ctx, j.Task.Input.GetFields()["directory"].GetStringValue(), j.Task.Checkpoint.GetFields())
	switch {
	case err == nil:
		outcome.Outcome = &pb.FinishTasksRequest_Outcome_Result{Result: result}
	case err == errCancelled:
		outcome.Outcome = &pb.FinishTasksRequest_Outcome_Cancelled{Cancelled: true}
	case err == errReleased:
		outcome.Outcome = &pb.FinishTasksRequest_Outcome_Released{Released: true}
	default:
		failure := status.Convert(err)
		outcome.Outcome = &pb.FinishTasksRequest_Outcome_Error{Error: failure.Proto()}
		outcome.Permanent = failure.Code() == codes.InvalidArgument
	}
	request := &pb.FinishTasksRequest{Outcomes: []*pb.FinishTasksRequest_Outcome{outcome}}
	if _, err := j.client.FinishTasks(context.WithoutCancel(ctx), request); err != nil {
		log.Print(err)
	}
}

func main() {
	flag.Parse()
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	reconnect := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 2 * time.Second}
	conn, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithNoProxy(), grpc.WithDefaultServiceConfig(fmt.Sprintf(config, *seconds)))
	if err != nil {
		log.Fatal(err)
	}
	client := pb.NewWorkerServiceClient(conn)
	lease, wait := time.Duration(*seconds)*time.Second, 20*time.Second
	request := &pb.LeaseTasksRequest{
		Worker: fmt.Sprintf("go-%d", os.Getpid()), Kinds: []string{"hash-files"},
		LeaseDuration: durationpb.New(lease), Wait: durationpb.New(wait),
	}
	for ctx.Err() == nil {
		response, err := client.LeaseTasks(ctx, request)
		if err != nil && ctx.Err() == nil {
			log.Print(err)
			time.Sleep(time.Second)
		}
		for _, lease := range response.GetLeases() {
			(&job{client, lease, time.Now()}).run(ctx)
		}
	}
}

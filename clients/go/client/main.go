// Command client creates a task, watches it to its end, also through restarts of the
// server, and prints its result as JSON. Its exit status is 0 where the task succeeded.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pb "taskwatch.example/clients/taskwatchv1"
)

var address = flag.String("address", "127.0.0.1:50051", "of the server")

func main() {
	flag.Parse()
	log.SetFlags(0)
	input := &structpb.Struct{}
	if flag.NArg() != 2 {
		log.Fatal("usage: client [-address HOST:PORT] KIND INPUT")
	} else if err := protojson.Unmarshal([]byte(flag.Arg(1)), input); err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		// Pings find out when a server is gone without a word.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second}))
	if err != nil {
		log.Fatal(err)
	}
	client := pb.NewTaskServiceClient(conn)
	// Under one id, so that a create whose answer was lost creates no second task.
	create := &pb.CreateTaskRequest{RequestId: rand.Text(), Task: &pb.Task{Kind: flag.Arg(0), Input: input}}
	var task *pb.Task
	for pause := 100 * time.Millisecond; task.GetEndTime() == nil; pause = min(2*pause, 2*time.Second) {
		seen := task.GetRevision()
		if task, err = follow(client, create, task); task.GetEndTime() != nil {
			break
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
			log.Fatal(err)
		}
		if task.GetRevision() != seen {
			pause = 100 * time.Millisecond
		}
		log.Printf("cut: %v", err)
		time.Sleep(pause)
		conn.ResetConnectBackoff()
	}
	if task.State != pb.Task_SUCCEEDED {
		log.Fatalf("%v: %v", task.State, task.Error.GetMessage())
	}
	fmt.Println(protojson.Format(task.Result))
}

// follow creates the task where there is none yet, and watches it until the stream ends. A
// stream that ends before the task has ended was cut, whatever its status.
func follow(client pb.TaskServiceClient, create *pb.CreateTaskRequest, task *pb.Task) (*pb.Task, error) {
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if task == nil {
		created, err := client.CreateTask(ctx, create)
		if err != nil {
			return nil, err
		}
		log.Print(created.Name)
		task = created
	}
	stream, err := client.WatchTask(context.Background(), &pb.WatchTaskRequest{Name: task.Name, AfterRevision: task.Revision})
	for err == nil {
		var frame *pb.WatchTaskResponse
		if frame, err = stream.Recv(); err == nil {
			task = frame.Task
			log.Printf("%v %.0f%% %s", task.State, task.Progress.GetPercent(), task.Progress.GetMessage())
		}
	}
	return task, err
}

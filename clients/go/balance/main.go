// Command balance creates tasks at all replicas in turn and follows each to its end, whichever
// replica dies or drains meanwhile; it prints their names and states.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pb "taskwatch.example/clients/taskwatchv1"
)

var address = flag.String("address", "127.0.0.1:50051", "HOST:PORT,HOST:PORT or dns:///HOST:PORT")
var tasks = flag.Int("tasks", 30, "how many")
var atOnce = flag.Int("at-once", 10, "how many at once")

func main() {
	flag.Parse()
	log.SetFlags(0)
	input := &structpb.Struct{}
	if flag.NArg() != 2 {
		log.Fatal("usage: balance [-address LIST] [-tasks N] [-at-once N] KIND INPUT")
	} else if err := protojson.Unmarshal([]byte(flag.Arg(1)), input); err != nil {
		log.Fatal(err)
	}
	conn, err := replicas(*address)
	if err != nil {
		log.Fatal(err)
	}
	client, turns := pb.NewTaskServiceClient(conn), make(chan *pb.Task)
	var group sync.WaitGroup
	for range *atOnce {
		group.Go(func() {
			for task := range turns {
				task = follow(client, task)
				fmt.Println(task.Name, task.State)
			}
		})
	}
	for range *tasks {
		turns <- &pb.Task{Kind: flag.Arg(0), Input: input}
	}
	close(turns)
	group.Wait()
}

// follow creates a task and watches it to its end. The policy sends the same request again, which
// creates once since it has an id. A watch that is cut goes on from the last revision seen.
func follow(client pb.TaskServiceClient, task *pb.Task) *pb.Task {
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	task, err := client.CreateTask(ctx, &pb.CreateTaskRequest{RequestId: rand.Text(), Task: task})
	if err != nil {
		log.Fatal("not created: ", err)
	}
	for task.EndTime == nil {
		request := &pb.WatchTaskRequest{Name: task.Name, AfterRevision: task.Revision}
		stream, err := client.WatchTask(context.Background(), request)
		for err == nil {
			var frame *pb.WatchTaskResponse
			if frame, err = stream.Recv(); err == nil {
				task = frame.Task
			}
		}
		if task.EndTime == nil && status.Code(err) == codes.NotFound {
			log.Fatal(task.Name, " was deleted")
		} else if task.EndTime == nil {
			log.Printf("%s: cut at revision %d: %v", task.Name, task.Revision, err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	return task
}

package main

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // Or healthCheckConfig is passed over.
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// In turn over all replicas but those that drain; what met one that was gone is asked again.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": ""},
	"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy": {
		"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]}}]
}`

// replicas makes one connection to each of "HOST:PORT,HOST:PORT", or to each address that a name
// has, as in "dns:///HOST:PORT".
func replicas(address string) (*grpc.ClientConn, error) {
	target, list, state := address, manual.NewBuilderWithScheme("list"), resolver.State{}
	if !strings.Contains(address, ":///") {
		target = "list:///replicas"
		for _, each := range strings.Split(address, ",") {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: each})
		}
		list.InitialState(state)
	}
	return grpc.NewClient(target, grpc.WithResolvers(list),
		grpc.WithDefaultServiceConfig(serviceConfig), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A replica that comes back is found within seconds, and one that is silent is left.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{
			BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second}))
}

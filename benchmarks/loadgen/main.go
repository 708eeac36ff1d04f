// Loadgen drives an etcd v3 server with the real Go client and prints one JSON document.
//
// N clients over M connections each have one operation outstanding; a worker's next operation starts when the last one is
// answered, or, with -rate, when its turn has come. The first -warmup of the run is not counted. What is measured is told apart from how it is driven: ops.go has
// the operations, stats.go the numbers.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const patience = time.Minute // for the last answers

type options struct {
	endpoint  string
	op        string
	clients   int
	conns     int
	duration  time.Duration
	warmup    time.Duration
	keySize   int
	valueSize int
	prefix    string
	keys      int
	watchers  int
	rate      float64
	own       bool
}

func parse() options {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "127.0.0.1:2379", "server address")
	flag.StringVar(&o.op, "op", "create", "one of "+strings.Join(names(), ", "))
	flag.IntVar(&o.clients, "clients", 300, "operations outstanding at any time")
	flag.IntVar(&o.conns, "conns", 8, "connections the clients share")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "counted part of the run")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "part before it that is not counted")
	flag.IntVar(&o.keySize, "key-size", 70, "bytes of a key")
	flag.IntVar(&o.valueSize, "value-size", 512, "bytes of a value")
	flag.StringVar(&o.prefix, "prefix", "/registry/bench/", "what keys begin with")
	flag.IntVar(&o.keys, "keys", 50000, "keys that reading, updating and deleting choose from (make them with -op fill)")
	flag.IntVar(&o.watchers, "watchers", 100, "watchers of the watch and fanout operations")
	flag.Float64Var(&o.rate, "rate", 0, "operations a second, begun on time whatever the server does; 0: a closed loop")
	flag.BoolVar(&o.own, "own", false, "each watcher of fanout watches one key of its own, not everything")
	flag.Parse()
	return o
}

func main() {
	o := parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	op, ok := operations[o.op]
	if !ok {
		return fmt.Errorf("unknown -op %q; known: %s", o.op, strings.Join(names(), ", "))
	}
	clients := make([]*clientv3.Client, o.conns)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{o.endpoint},
			DialTimeout: 20 * time.Second,
			DialOptions: []grpc.DialOption{grpc.WithBlock()}, //nolint:staticcheck // connected before the clock starts
		})
		if err != nil {
			return err
		}
		defer client.Close()
		clients[i] = client
	}
	load := newLoad(o, op)
	if op.prepare != nil {
		if err := op.prepare(load, clients); err != nil {
			return err
		}
	}
	result := load.drive(clients)
	return json.NewEncoder(os.Stdout).Encode(result)
}

// drive runs the closed loop and merges what the workers saw.
func (l *load) drive(clients []*clientv3.Client) result {
	begin := time.Now()
	counted := begin.Add(l.warmup)
	end := counted.Add(l.duration)
	ctx, stop := context.WithDeadline(context.Background(), end.Add(patience)) // a server that hangs ends the run
	defer stop()
	workers := make([]*worker, l.clients)
	var all sync.WaitGroup
	for i := range workers {
		workers[i] = newWorker(l, i, clients[i%len(clients)])
		all.Go(func() { workers[i].loop(ctx, begin, counted, end) })
	}
	all.Wait()
	if l.delivered != nil {
		l.delivered.await(workers)
	}
	return merge(l, workers, begin, min(time.Since(counted), time.Since(begin)))
}

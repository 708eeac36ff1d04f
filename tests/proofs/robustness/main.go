// Robustness runs the mixed traffic of etcd's own robustness tests against one endpoint and judges it by etcd's model:
// puts, deletes, leases, transactions and reads of eight clients, and compactions beside them. All requests must be
// linearizable, whatever happens to the server meanwhile.
//
// It writes one JSON line: how many requests were made, and why the history is rejected, if it is.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

const (
	startTimeout    = 30 * time.Second
	requestTimeout  = 2 * time.Second // a busy machine; etcd's tests give 200 ms
	validateTimeout = 4 * time.Minute
)

type result struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"` // without an answer: the outcome is unknown
	Kinds    map[string]int `json:"kinds"`  // answered requests of each kind
	Revision int64          `json:"revision"`
	Fault    string         `json:"fault"` // empty: accepted
}

func main() {
	endpoint := flag.String("endpoint", "http://127.0.0.1:2379", "client URL of a server without data")
	duration := flag.Duration("duration", 10*time.Second, "how long the traffic lasts")
	qps := flag.Float64("qps", 600, "requests per second at most")
	period := flag.Duration("compact-every", 200*time.Millisecond, "time between compactions")
	folder := flag.String("report", "", "where the requests and the picture of a rejected history are kept")
	flag.Parse()
	traffic.RequestTimeout = requestTimeout
	if err := run(*endpoint, *duration, *qps, *period, *folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(endpoint string, duration time.Duration, qps float64, period time.Duration, folder string) error {
	clients := client.NewSet(identity.NewIDProvider(), time.Now())
	defer clients.Close()
	if err := simulate([]string{endpoint}, duration, qps, period, clients); err != nil {
		return err
	}
	reports := clients.Reports()
	judged := validate.ValidateAndReturnVisualize(zap.NewNop(), validate.Config{}, reports, nil, validateTimeout)
	told := summary(reports)
	if err := judged.Error(); err != nil {
		told.Fault = err.Error()
		keep(folder, reports, judged)
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// simulate makes the requests of etcd's EtcdPutDeleteLease traffic until the time is over, then a last one that must
// succeed: the model needs it to decide about requests without an answer.
func simulate(endpoints []string, duration time.Duration, qps float64, period time.Duration, clients *client.ClientSet) error {
	ctx, cancel := context.WithTimeout(context.Background(), duration+startTimeout)
	defer cancel()
	if err := traffic.CheckEmptyDatabaseAtStart(ctx, zap.NewNop(), endpoints, clients); err != nil {
		return fmt.Errorf("%s: %w", endpoints[0], err)
	}
	finish := make(chan struct{})
	var running sync.WaitGroup
	requests := traffic.KeyValue{MemberClientCount: 6, ClusterClientCount: 2}
	err := traffic.SimulateKeyValueTraffic(ctx, &running, &requests, endpoints, clients, traffic.EtcdPutDeleteLease, traffic.RunTrafficLoopParam{
		QPSLimiter:                         rate.NewLimiter(rate.Limit(qps), int(qps)),
		IDs:                                clients.IdentityProvider(),
		LeaseIDStorage:                     identity.NewLeaseIDStorage(),
		NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(3),
		KeyStore:                           traffic.NewKeyStore(10, "key"),
		Storage:                            traffic.NewKubernetesStorage(),
		Finish:                             finish,
	})
	if err != nil {
		return err
	}
	compactions := traffic.Compaction{Period: period}
	err = traffic.SimulateCompactionTraffic(ctx, &running, &compactions, endpoints, clients, traffic.EtcdPutDeleteLease, traffic.RunCompactLoopParam{
		Period: period,
		Finish: finish,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "traffic has started")
	time.Sleep(duration)
	close(finish)
	running.Wait()
	last, err := clients.NewClient(endpoints)
	if err != nil {
		return err
	}
	defer last.Close()
	if _, err = last.Put(ctx, "tombstone", "true"); err != nil {
		return fmt.Errorf("the last request did not succeed: %w", err)
	}
	return nil
}

func summary(reports []report.ClientReport) result {
	told := result{Kinds: map[string]int{}, Revision: report.OperationsMaxRevision(reports)}
	for _, one := range reports {
		for _, operation := range one.KeyValue {
			told.Requests++
			if operation.Output.(model.MaybeEtcdResponse).Error != "" {
				told.Failed++
			} else {
				told.Kinds[string(operation.Input.(model.EtcdRequest).Type)]++
			}
		}
	}
	return told
}

// keep writes what a person needs to understand a rejected history. A failure to write does not hide the verdict.
func keep(folder string, reports []report.ClientReport, judged validate.RobustnessResult) {
	if folder == "" {
		return
	}
	var operations []porcupine.Operation
	for _, one := range reports {
		operations = append(operations, one.KeyValue...)
	}
	slices.SortFunc(operations, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	text, err := os.Create(filepath.Join(folder, "requests.txt"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer text.Close()
	describe := model.NonDeterministicModel(nil).DescribeOperation
	for _, one := range operations {
		fmt.Fprintf(text, "%d-%d client %d: %s\n", one.Call, one.Return, one.ClientId, describe(one.Input, one.Output))
	}
	if len(judged.Linearization.Info.PartialLinearizations()) > 0 {
		if err = porcupine.VisualizePath(judged.Linearization.Model, judged.Linearization.Info, filepath.Join(folder, "history.html")); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

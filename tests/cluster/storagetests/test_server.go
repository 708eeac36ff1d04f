// Package testserver gives kube-apiserver's storage tests a store of our choosing instead of an embedded etcd.
//
// It takes the place of the file of the same name in k8s.io/apiserver/pkg/storage/etcd3/testserver and offers the same
// two functions; the tests themselves stay untouched. The server is a process: WHARF_STORE_COMMAND holds the words of its
// command line (a JSON list) up to the flags, which are etcd's. Every call starts one on a fresh directory.
package testserver

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	commandVariable = "WHARF_STORE_COMMAND"
	kindVariable    = "WHARF_STORE_KIND" // "etcd" also wants peer URLs
	readyLine       = "ready to serve client requests"
	readyTimeout    = 30 * time.Second
)

// NewTestConfig returns a configuration whose client, peer and data settings RunEtcd hands to the server.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	cfg := embed.NewConfig()
	client, peer := freeURL(t), freeURL(t)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Dir = filepath.Join(t.TempDir(), "data")
	return cfg
}

// RunEtcd starts a server (NewTestConfig when cfg is nil) and returns a client of it; both end with the test.
func RunEtcd(t testing.TB, cfg *embed.Config) *kubernetes.Client {
	t.Helper()
	if cfg == nil {
		cfg = NewTestConfig(t)
	}
	startServer(t, cfg)

	tlsConfig, err := cfg.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tlsConfig,
		Endpoints:   []string{cfg.AdvertiseClientUrls[0].String()},
		DialTimeout: 10 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithBlock()}, //nolint:staticcheck // the tests expect a connected client
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)).Named("etcd-client"),
	})
	if err != nil {
		t.Fatal(err)
	}
	client.KV = storagetesting.NewKVRecorder(client.KV)
	client.Kubernetes = storagetesting.NewKubernetesRecorder(client.Kubernetes)
	return client
}

func freeURL(t testing.TB) url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// "localhost", not the address: the certificates of the TLS test carry the name.
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", port)}
}

func startServer(t testing.TB, cfg *embed.Config) {
	t.Helper()
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv(commandVariable)), &words); err != nil || len(words) == 0 {
		t.Fatalf("%s must hold a JSON list of words: %v", commandVariable, err)
	}
	logPath := filepath.Join(t.TempDir(), "server.log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(words[0], append(words[1:], flags(cfg)...)...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		log.Close()
		if t.Failed() {
			t.Logf("log of the store:\n%s", tail(logPath))
		}
	})
	for deadline := time.Now().Add(readyTimeout); !strings.Contains(tail(logPath), readyLine); {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the store ended before it was ready: %v\n%s", err, tail(logPath))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store was not ready in %s\n%s", readyTimeout, tail(logPath))
		}
	}
}

func flags(cfg *embed.Config) []string {
	words := []string{
		"--data-dir=" + cfg.Dir,
		"--listen-client-urls=" + cfg.ListenClientUrls[0].String(),
		"--advertise-client-urls=" + cfg.AdvertiseClientUrls[0].String(),
		"--unsafe-no-fsync",
	}
	if os.Getenv(kindVariable) == "etcd" {
		words = append(words,
			"--listen-peer-urls="+cfg.ListenPeerUrls[0].String(),
			"--initial-advertise-peer-urls="+cfg.AdvertisePeerUrls[0].String(),
			"--initial-cluster="+cfg.InitialCluster,
		)
	}
	if cfg.WatchProgressNotifyInterval != 0 {
		words = append(words, fmt.Sprintf("--watch-progress-notify-interval=%s", cfg.WatchProgressNotifyInterval))
	}
	if cfg.QuotaBackendBytes != 0 {
		words = append(words, fmt.Sprintf("--quota-backend-bytes=%d", cfg.QuotaBackendBytes))
	}
	if info := cfg.ClientTLSInfo; info.CertFile != "" {
		words = append(words, "--cert-file="+info.CertFile, "--key-file="+info.KeyFile)
		if info.TrustedCAFile != "" {
			words = append(words, "--trusted-ca-file="+info.TrustedCAFile)
		}
		if info.ClientCertAuth {
			words = append(words, "--client-cert-auth=true")
		}
	}
	return words
}

func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-8000):])
}

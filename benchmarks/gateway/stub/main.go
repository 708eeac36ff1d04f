// Stub is both ends of a watch, in one process so that they share a clock: an upstream that answers every watch with a head
// and then holds it, and clients that open watches through whatever stands between.
//
// It takes one command a line on stdin and answers each with one line of JSON:
//
//	open HOST:PORT CONNECTIONS STREAMS   open watches there, STREAMS on each connection; answers once all have their head
//	emit PER_SECOND SECONDS              so many events a second to every watch; answers once all of them arrived
//	close                                end all watches; answers once the upstream has none left
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

const patience = time.Minute // for what is under way to end

type answer map[string]any

type stub struct {
	hub     *hub
	roots   *x509.CertPool
	name    string
	clients *clients
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address of the upstream")
	cert := flag.String("cert", "", "its certificate")
	key := flag.String("key", "", "its key")
	ca := flag.String("ca", "", "whom the clients trust")
	name := flag.String("server-name", "", "what the clients ask for")
	review := flag.String("review", "", "answer to whoever asks by POST whom the upstream takes them for")
	streams := flag.Int("streams-max", 100, "streams a connection to the upstream may have (100 is kube-apiserver's)")
	flag.Parse()
	if err := run(*listen, *cert, *key, *ca, *name, *review, *streams); err != nil {
		fmt.Fprintln(os.Stderr, "stub:", err)
		os.Exit(1)
	}
}

func run(listen, cert, key, ca, name, review string, streams int) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", ca)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	s := &stub{hub: newHub(review), roots: roots, name: name}
	address, err := s.hub.serve(listen, pair, streams)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{"address": address}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		told, err := s.command(lines.Text())
		if err != nil {
			told = answer{"error": err.Error()}
		}
		if err := out.Encode(told); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s *stub) command(line string) (answer, error) {
	var verb, target string
	var first, second float64
	if _, err := fmt.Sscanf(line, "open %s %g %g", &target, &first, &second); err == nil {
		return s.open(target, int(first), int(second))
	}
	if _, err := fmt.Sscanf(line, "emit %g %g", &first, &second); err == nil {
		return s.emit(first, time.Duration(second*float64(time.Second)))
	}
	if _, err := fmt.Sscan(line, &verb); err == nil && verb == "close" {
		return s.close()
	}
	return nil, fmt.Errorf("unknown command %q", line)
}

func (s *stub) open(target string, connections, streams int) (answer, error) {
	if s.clients != nil {
		return nil, errors.New("close the watches that are open first")
	}
	began := time.Now()
	opened, err := openAll(target, s.name, s.roots, connections, streams)
	s.clients = opened
	if err != nil {
		return nil, err
	}
	return answer{"watches": connections * streams, "seconds": time.Since(began).Seconds()}, nil
}

func (s *stub) emit(perSecond float64, length time.Duration) (answer, error) {
	if s.clients == nil {
		return nil, errors.New("no watch is open")
	}
	s.clients.forget()
	sent, began := s.hub.emit(perSecond, length)
	arrived := s.clients.await(sent, patience)
	delays := s.clients.delays()
	seconds := s.clients.last().Sub(began).Seconds()
	return answer{
		"events": sent, "missing": sent - arrived, "seconds": seconds,
		"p50_ms": quantile(delays, 0.50), "p99_ms": quantile(delays, 0.99), "max_ms": quantile(delays, 1),
	}, nil
}

func (s *stub) close() (answer, error) {
	if s.clients != nil {
		s.clients.close()
		s.clients = nil
	}
	return answer{"left": s.hub.awaitEmpty(patience)}, nil
}

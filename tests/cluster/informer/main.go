// Informer runs client-go's shared informers, as every controller does, and tells what they had to do and what they saw.
//
// It watches pods, configmaps and leases of one namespace. Every object carries a number that its writer only ever counts
// up by one, so an event that is lost, repeated or out of order shows. Requests are counted in the transport: a LIST, or a
// watch that asks for all objects again, after the first one is a relist, whatever the library calls it.
// For each line on stdin one JSON document is printed; the end of stdin ends the program.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file with the apiserver's address and credentials")
	namespace := flag.String("namespace", "default", "namespace to watch")
	flag.Parse()
	if err := run(*kubeconfig, *namespace); err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	requests := newRequests()
	config.Wrap(requests.wrap)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	watched := map[string]*witness{
		"pods":       newWitness(factory.Core().V1().Pods().Informer(), podNumber),
		"configmaps": newWitness(factory.Core().V1().ConfigMaps().Informer(), configMapNumber),
		"leases":     newWitness(factory.Coordination().V1().Leases().Informer(), leaseNumber),
	}
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	for _, one := range watched {
		if !cache.WaitForCacheSync(stop, one.synced) {
			return fmt.Errorf("an informer did not synchronise")
		}
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		told := map[string]report{}
		for name, one := range watched {
			told[name] = one.report(requests.of(name))
		}
		if err := out.Encode(told); err != nil {
			return err
		}
	}
	return lines.Err()
}

func podNumber(object any) (int, error) {
	message := object.(*core.Pod).Status.Message
	if message == "" {
		return 0, nil // its first status is the apiserver's own
	}
	return strconv.Atoi(message)
}

func configMapNumber(object any) (int, error) {
	return strconv.Atoi(object.(*core.ConfigMap).Data["number"])
}

func leaseNumber(object any) (int, error) {
	holder := object.(*coordination.Lease).Spec.HolderIdentity
	if holder == nil {
		return 0, fmt.Errorf("a lease without holder")
	}
	return strconv.Atoi(*holder)
}

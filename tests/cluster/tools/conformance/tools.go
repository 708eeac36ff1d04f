//go:build tools

// Package tools names Kubernetes' own end-to-end tests and what they stand on, which this module pins and builds.
// It is a module of its own because the tests require more than the programs do: those are not built anew for it.
package tools

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/sample-apiserver"
)

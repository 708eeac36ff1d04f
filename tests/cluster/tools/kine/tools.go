//go:build tools

// Package tools names the commands that this module pins and builds.
// It is never compiled: the build tag keeps it out of every build, while `go mod tidy` still sees the imports.
package tools

import (
	_ "github.com/k3s-io/kine"
)

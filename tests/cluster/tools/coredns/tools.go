//go:build tools

package tools

import _ "wharf.dev/tests/cluster/tools/coredns/services"

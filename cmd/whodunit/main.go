// Command whodunit answers who did what in a Kubernetes cluster. See `whodunit --help`.
package main

import (
	"os"

	"whodunit/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(cli.Main(version)) }

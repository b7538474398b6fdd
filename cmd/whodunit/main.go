// Command whodunit answers who did what in a Kubernetes cluster. See `whodunit --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"whodunit/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], version, cli.OS())
	stop()
	os.Exit(code)
}

// Command testreport reads the output of `go test -json` and prints what a person wants of it: one line a package as go test
// writes it, the whole output of what failed, and at the end every skipped test with its reason and the counts.
//
//	go test -json ./... | testreport
//
// It exits 1 if anything failed to build or failed, if no test ran at all, and, with CI=true, if a test was skipped because
// something is missing ("SKIPPED: ..." in its output): in CI a missing part is a failure.
package main

import (
	"fmt"
	"os"
)

func main() {
	strict := os.Getenv("CI") == "true"
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintf(os.Stderr, "testreport: %v\n", err)
		os.Exit(2)
	}
	if !r.close(strict) {
		os.Exit(1)
	}
}

// Command sizecheck holds the repository's source to its size budgets: at most 500 lines a file, 120 lines a function
// (more than 60 is said, not failed) and 4 methods an interface. Generated files and test data are left out.
//
//	go run ./test/tools/sizecheck [-notes] [folder]
package main

import (
	"flag"
	"fmt"
	"os"
	"sort"
)

// The budgets. docs/adr/0001-record-decisions.md says how to change one.
const (
	maxFileLines  = 500
	maxFuncLines  = 120
	noteFuncLines = 60
	maxMethods    = 4
)

// exceptions names what may be larger, with the reason. A key is a file's path, or path:name for a function or an interface.
// One that is no longer needed fails the check, so the list cannot rot.
func exceptions() map[string]string {
	return map[string]string{}
}

func main() {
	notes := flag.Bool("notes", false, "list every function over 60 lines")
	flag.Parse()
	root := "."
	if flag.NArg() > 0 {
		root = flag.Arg(0)
	}
	rep, err := check(root, exceptions())
	if err != nil {
		fmt.Fprintf(os.Stderr, "sizecheck: %v\n", err)
		os.Exit(2)
	}
	sort.Strings(rep.Notes)
	if *notes {
		for _, n := range rep.Notes {
			fmt.Println("note:", n)
		}
	}
	sort.Strings(rep.Failures)
	for _, f := range rep.Failures {
		fmt.Println(f)
	}
	fmt.Printf("sizecheck: %d files, %d over budget, %d functions over %d lines\n",
		rep.Files, len(rep.Failures), len(rep.Notes), noteFuncLines)
	if len(rep.Failures) > 0 {
		os.Exit(1)
	}
}

// Package rules is the detection pack that ships inside the binary: native rules, each with its own tests.
package rules

import "embed"

// FS holds the pack, one rule a file. docs/reference/rules.md says how to read and change one.
//
//go:embed *.yaml
var FS embed.FS

// Package section writes measured figures into a document, between marks that name them.
package section

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
)

// Machine describes the machine that this runs on.
func Machine() string {
	cpu := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(b); m != nil {
			cpu = string(m[1])
		}
	}
	return fmt.Sprintf("%d cores, %s, %s/%s", runtime.NumCPU(), cpu, runtime.GOOS, runtime.GOARCH)
}

// Verdict is the word for a figure that is met or not.
func Verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// Replace puts text between the marks `<!-- name:begin -->` and `<!-- name:end -->` of a file.
func Replace(path, name, text string) error {
	begin, end := []byte("<!-- "+name+":begin -->\n"), []byte("<!-- "+name+":end -->\n")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok1 := bytes.Cut(b, begin)
	_, tail, ok2 := bytes.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the marks %q and %q", path, begin, end)
	}
	out := bytes.Join([][]byte{head, begin, []byte(text), end, tail}, nil)
	return os.WriteFile(path, out, 0o644)
}

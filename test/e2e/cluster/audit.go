package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Logged is one event of the audit log, read in the plainest way there is: it is what whodunit's answers are held against.
type Logged struct {
	AuditID    string   `json:"auditID"`
	Stage      string   `json:"stage"`
	Verb       string   `json:"verb"`
	RequestURI string   `json:"requestURI"`
	SourceIPs  []string `json:"sourceIPs"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ImpersonatedUser struct {
		Username string `json:"username"`
	} `json:"impersonatedUser"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Raw []byte `json:"-"` // the line, without its end
}

// Key is what tells the events of an honest cluster apart.
func (l Logged) Key() string { return l.AuditID + " " + l.Stage }

// AuditLog reads the whole audit log, rotated files first. A last line that is still being written is left out.
func (c *Cluster) AuditLog() ([]Logged, error) {
	// audit-2026-11-21T13-24-59.897.log: the names sort by time, and before audit.log.
	files, err := filepath.Glob(filepath.Join(filepath.Dir(c.AuditPath), "audit-*.log"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []Logged
	for _, file := range append(files, c.AuditPath) {
		events, err := readLog(file)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
	}
	return all, nil
}

func readLog(file string) ([]Logged, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var events []Logged
	r := bufio.NewReaderSize(f, 1<<20)
	for n := 1; ; n++ {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // what is left is a line that is still being written
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read audit log: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		l := Logged{Raw: []byte(line)}
		if err := json.Unmarshal(l.Raw, &l); err != nil {
			return nil, fmt.Errorf("cannot read %s:%d: %w", file, n, err)
		}
		events = append(events, l)
	}
}

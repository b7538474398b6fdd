package cluster

import (
	"context"
	"os"
	"testing"
	"time"
)

// For is a running cluster for one test, stopped at its end. Without the testcluster program the test is skipped; where
// CI=true it is built. A failed test keeps the directory and prints the ends of the logs.
func For(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Binary == "" {
		cfg.Binary = BinaryFor(t)
	}
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "testcluster-") // not t.TempDir: that one is gone when somebody wants to read the logs
		if err != nil {
			t.Fatal(err)
		}
		cfg.Dir = dir
	}
	start := time.Now()
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cluster is ready after %.1f s", time.Since(start).Seconds())
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("cannot stop cluster: %v", err)
		}
		if t.Failed() {
			t.Logf("cluster's files are kept in %s\n%s", c.Dir, c.Tails(20))
			return
		}
		if err := os.RemoveAll(c.Dir); err != nil {
			t.Errorf("cannot remove cluster's files: %v", err)
		}
	})
	return c
}

// BinaryFor is the testcluster program's path. Without it the test is skipped; where CI=true it is built.
func BinaryFor(t testing.TB) string {
	t.Helper()
	if os.Getenv("CI") == "true" {
		path, err := Build(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path, err := Binary()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	return path
}

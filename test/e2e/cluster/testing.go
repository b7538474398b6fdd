package cluster

import (
	"context"
	"os"
	"testing"
	"time"
)

// For is a running cluster for one test, stopped at its end. Without the testcluster program the test is skipped; where
// CI=true it is built. A failed test prints the ends of the logs and, unless Config.Dir says where, keeps the directory.
func For(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Binary == "" {
		cfg.Binary = BinaryFor(t)
	}
	if cfg.Dir == "" {
		cfg.Dir = TempDir(t)
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
			t.Logf("cluster's logs end with:\n%s", c.Tails(20))
		}
	})
	return c
}

// TempDir is a directory that is removed at the test's end unless the test failed: then somebody wants to read the logs.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "testcluster-") //nolint:usetesting // that of testing is gone when the test failed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("files are kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot remove cluster's files: %v", err)
		}
	})
	return dir
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

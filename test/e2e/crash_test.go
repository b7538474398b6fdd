package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"whodunit/test/e2e/cluster"
)

const (
	loadFor  = 15 * time.Second
	loadRate = 80 // calls a second: more than a busy small cluster has, and fit for two cores
	crashes  = 3
)

// Killed with -9 in the middle of the stream, again and again, whodunit has every event in the end that the API server logged,
// and shows each once: from the webhook in each of its modes, from the log file as it is rotated, and from both at once.
func TestKilledUnderLoad(t *testing.T) {
	bin := cluster.BinaryFor(t)
	for _, tt := range []struct {
		name string
		mode cluster.WebhookMode // "": no webhook
		file bool
	}{
		{"batch", cluster.Batch, false},
		{"blocking", cluster.Blocking, false},
		{"blocking-strict", cluster.BlockingStrict, false},
		{"file", "", true},
		{"webhook and file", cluster.Batch, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := cluster.TempDir(t) // known before the cluster starts, as whodunit starts first
			s := setup{webhook: tt.mode != ""}
			if tt.file {
				s.files = []string{filepath.Join(dir, "audit", "audit*.log")}
			}
			w := newServer(t, s)
			cfg := cluster.Config{Binary: bin, Dir: dir, LoadUsers: 12}
			if tt.mode != "" {
				cfg.Webhook = w.hook(tt.mode)
			}
			if tt.file {
				cfg.Log.MaxSizeMB = 1
			}
			c := cluster.For(t, cfg)
			crash(t, c, w, loadFor, crashes)
			sources(t, c, w, tt.mode != "", tt.file)
			compare(t, c, w, tt.file)
		})
	}
}

// The same for as long as WHODUNIT_SOAK says, with a crash every half minute.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("WHODUNIT_SOAK"))
	if err != nil {
		t.Skip("only with WHODUNIT_SOAK set to a duration, as `make soak` does")
	}
	bin := cluster.BinaryFor(t)
	dir := cluster.TempDir(t)
	w := newServer(t, setup{webhook: true, files: []string{filepath.Join(dir, "audit", "audit*.log")}})
	c := cluster.For(t, cluster.Config{Binary: bin, Dir: dir, LoadUsers: 12, Webhook: w.hook(cluster.Batch), Log: cluster.AuditLog{MaxSizeMB: 8}})
	crash(t, c, w, length, int(length/(30*time.Second)))
	sources(t, c, w, true, true)
	compare(t, c, w, false)
}

// crash makes load and meanwhile, evenly over its length, kills whodunit and starts it again.
func crash(t *testing.T, c *cluster.Cluster, w *server, length time.Duration, kills int) {
	t.Helper()
	var report string
	var err error
	wait := background(t, func(ctx context.Context) {
		report, err = c.RunLoad(ctx, cluster.Load{Duration: length, Rate: loadRate})
	})
	start := time.Now()
	for i := range kills {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(time.Until(start.Add(length * time.Duration(i+1) / time.Duration(kills+1)))):
		}
		before := -1
		eventually(t, soonLimit, "events come in", func(ctx context.Context) error {
			found, err := w.events(ctx, "user:load-*")
			if err != nil {
				return err
			}
			if before < 0 {
				before = len(found)
			}
			if len(found) == before {
				return fmt.Errorf("%d events after %d crashes", before, i)
			}
			return nil
		})
		w.kill()
		w.start()
	}
	wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("load:\n%s", report)
}

// sources makes sure that the wanted sources work after the last crash: where both bring the same events, one would hide that
// the other does not.
func sources(t *testing.T, c *cluster.Cluster, w *server, webhook, file bool) {
	t.Helper()
	for metric, wanted := range map[string]bool{"whodunit_webhook_events_total": webhook, "whodunit_file_read_bytes_total": file} {
		if !wanted {
			continue
		}
		eventually(t, soonLimit, metric+" counts", func(ctx context.Context) error {
			return errors.Join(c.Kubectl(ctx, cluster.Alice, "auth", "whoami").Err, w.counted(ctx, metric))
		})
	}
}

// compare holds what whodunit shows against the audit log. The API server runs on meanwhile, so the comparison is with the
// events that were logged when it began, and with none that whodunit made up.
func compare(t *testing.T, c *cluster.Cluster, w *server, rotated bool) {
	t.Helper()
	logged, err := c.AuditLog()
	if err != nil {
		t.Fatal(err)
	}
	if rotated {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(c.AuditPath), "audit-*.log"))
		if err != nil || len(files) < 2 {
			t.Fatalf("the log was rotated to %q: %v", files, err)
		}
	}
	var shown []cluster.Logged
	eventually(t, soonLimit, "every logged event is shown", func(ctx context.Context) error {
		var err error
		if shown, err = w.events(ctx, "*"); err != nil {
			return err
		}
		have := map[string]bool{}
		for _, e := range shown {
			have[e.Key()] = true
		}
		missing := 0
		var first cluster.Logged
		for _, e := range logged {
			if !have[e.Key()] {
				if missing++; missing == 1 {
					first = e
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing, the first: %.500s", missing, len(logged), first.Raw)
		}
		return nil
	})
	times := map[string]int{}
	for _, e := range shown {
		times[e.Key()]++
	}
	for key, n := range times {
		if n != 1 {
			t.Errorf("%s is shown %d times", key, n)
		}
	}
	if err := noneMadeUp(c, times); err != nil {
		t.Error(err)
	}
	t.Logf("%d events were logged, %d are shown, each once", len(logged), len(shown))
}

// noneMadeUp says which shown events are not in the log, which is read again: it is always ahead of the webhook.
func noneMadeUp(c *cluster.Cluster, shown map[string]int) error {
	logged, err := c.AuditLog()
	if err != nil {
		return err
	}
	in := map[string]bool{}
	for _, e := range logged {
		in[e.Key()] = true
	}
	var errs []error
	for key := range shown {
		if !in[key] {
			errs = append(errs, fmt.Errorf("%s is shown and was never logged", key))
		}
	}
	return errors.Join(errs...)
}

package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

const etcdStartLimit = 60 * time.Second

// runEtcd serves one etcd member on a loopback port that the system chooses, and writes its URL to --address-file once
// it is ready.
func runEtcd(args []string) int {
	fs := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := fs.String("data-dir", "", "data directory")
	addressFile := fs.String("address-file", "", "file that gets the client URL once etcd serves")
	fsync := fs.Bool("fsync", false, "sync to disk; a test's cluster need not outlive the machine")
	quota := fs.Int64("quota-backend-bytes", 4<<30, "backend quota in bytes")
	_ = fs.Parse(args) // ExitOnError
	if *dir == "" || *addressFile == "" || fs.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "etcd: --data-dir and --address-file are needed, and no arguments")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serveEtcd(ctx, etcdConfig(*dir, *fsync, *quota), *addressFile); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	return 0
}

func etcdConfig(dir string, fsync bool, quota int64) *embed.Config {
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "testcluster", dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{any}, []url.URL{any}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{any}, []url.URL{any}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync, cfg.QuotaBackendBytes = !fsync, quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "5m"
	cfg.WarningUnaryRequestDuration = 500 * time.Millisecond // zero, embed's default, warns at every request
	cfg.LogLevel = "warn"
	return cfg
}

func serveEtcd(ctx context.Context, cfg *embed.Config, addressFile string) error {
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return fmt.Errorf("cannot start: %w", err)
	case <-ctx.Done():
		return nil
	case <-time.After(etcdStartLimit):
		return fmt.Errorf("not ready after %s", etcdStartLimit)
	}
	if err := writeWhole(addressFile, "http://"+e.Clients[0].Addr().String()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return err
	}
}

// writeWhole writes a file so that a reader sees all of it or nothing.
func writeWhole(path, text string) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(tmp, []byte(text+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot write address file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("cannot write address file: %w", err)
	}
	return nil
}

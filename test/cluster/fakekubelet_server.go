package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	streamIdle   = 4 * time.Hour // the real kubelet's defaults
	streamCreate = 30 * time.Second
	defaultLines = 20
	maxLines     = 10_000
)

// serveKubelet answers what the API server asks of kubelets until ctx is done. It closes ln.
func serveKubelet(ctx context.Context, ln net.Listener, cert, key string) error {
	srv := &http.Server{
		Handler:           kubeletHandler(),
		ReadHeaderTimeout: streamCreate,
		// Exec and its like hijack the connection, which HTTP/2 cannot: an empty map turns that off.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ServeTLS(ln, cert, key); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve kubelet: %w", err)
	}
	return nil
}

func kubeletHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/{ns}/{pod}/{container}", serveLogs)
	exec := func(w http.ResponseWriter, r *http.Request) {
		opts, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, streams{}, r.PathValue("pod"), "", r.PathValue("container"), r.URL.Query()["command"], opts,
			streamIdle, streamCreate, remotecommand.SupportedStreamingProtocols)
	}
	mux.HandleFunc("/exec/{ns}/{pod}/{container}", exec)
	mux.HandleFunc("/run/{ns}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "fake run in %s/%s: %q\n", r.PathValue("pod"), r.PathValue("container"), r.FormValue("cmd"))
	})
	mux.HandleFunc("/attach/{ns}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		opts, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeAttach(w, r, streams{}, r.PathValue("pod"), "", r.PathValue("container"), opts,
			streamIdle, streamCreate, remotecommand.SupportedStreamingProtocols)
	})
	mux.HandleFunc("/portForward/{ns}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		opts, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, streams{}, r.PathValue("pod"), "", opts, streamIdle, streamCreate, portforward.SupportedProtocols)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "fake kubelet %q\n", r.URL.Path) })
	return mux
}

func serveLogs(w http.ResponseWriter, r *http.Request) {
	lines := defaultLines
	if t := r.FormValue("tailLines"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			http.Error(w, "tailLines: want a number", http.StatusBadRequest)
			return
		}
		lines = min(n, maxLines)
	}
	for i := range lines {
		fmt.Fprintf(w, "fake log line %d of %s/%s\n", i, r.PathValue("pod"), r.PathValue("container"))
	}
	if r.FormValue("follow") != "true" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range 3 {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			fmt.Fprintf(w, "follow %d\n", i)
		}
	}
}

// streams plays the container runtime: every command says what it was and succeeds.
type streams struct{}

func (streams) ExecInContainer(_ context.Context, pod, _, container string, cmd []string, _ io.Reader, out, _ io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	_, err := fmt.Fprintf(out, "fake exec in %s/%s: %q\n", pod, container, cmd)
	return err
}

func (streams) AttachContainer(_ context.Context, pod, _, container string, _ io.Reader, out, _ io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize) error {
	_, err := fmt.Fprintf(out, "fake attach to %s/%s\n", pod, container)
	return err
}

func (streams) PortForward(_ context.Context, _, _ string, _ int32, conn io.ReadWriteCloser) error {
	_, err := fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nfake\n")
	return errors.Join(err, conn.Close())
}

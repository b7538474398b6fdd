package cluster

import (
	"fmt"
	"syscall"
)

// Port is a free TCP port on 127.0.0.1 that nobody else is given while it is held, yet one program after the other may
// listen on it, also after a crash.
//
// A bound socket that does not listen keeps the kernel from handing the port out, while SO_REUSEADDR on it and on the
// listener (Go's net package sets it) lets the listener in.
type Port struct {
	number, fd int
}

// HoldPort takes a free port. Its owner calls Release.
func HoldPort() (*Port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot hold a port: %w", err)
	}
	number, err := bindAny(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("cannot hold a port: %w", err)
	}
	return &Port{number: number, fd: fd}, nil
}

func bindAny(fd int) (int, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	in4, ok := addr.(*syscall.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("unexpected address %T", addr)
	}
	return in4.Port, nil
}

// Release gives the port back.
func (p *Port) Release() error { return syscall.Close(p.fd) }

package cluster

import (
	"net"
	"strconv"
)

// Address is the port's loopback address, host and port.
func (p *Port) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)) }

// Number is the port's number.
func (p *Port) Number() int { return p.number }

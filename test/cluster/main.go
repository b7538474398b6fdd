// Command testcluster is a Kubernetes control plane in one binary, for tests on the loopback interface:
//
//	testcluster etcd --data-dir DIR --address-file FILE
//	testcluster kube-apiserver|kube-controller-manager|kube-scheduler|kubectl FLAGS   (the upstream commands, unchanged)
//	testcluster fakekubelet --node NAME=KUBECONFIG --cert FILE --key FILE
//	testcluster loadgen --kubeconfig FILE --token-file FILE
//
// The name that it is called by counts too, so a symbolic link named kubectl is kubectl, user agent included.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
	_ "time/tzdata" // cron jobs with time zones work on machines without a zone database

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info on /metrics
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// lifelineEnv names the environment variable that holds the number of a file descriptor. When that reaches its end, the
// process exits: the test that holds the other end is gone, however it died, and must not leave a cluster behind.
const lifelineEnv = "TESTCLUSTER_LIFELINE"

const usage = "usage: testcluster etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl|fakekubelet|loadgen FLAGS"

func main() { os.Exit(run()) }

func run() int {
	name := filepath.Base(os.Args[0])
	command := commands(name)
	if command == nil {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			return 2
		}
		name = os.Args[1]
		// The upstream commands read os.Args, and client-go takes the user agent from os.Args[0].
		os.Args = append([]string{name}, os.Args[2:]...)
		command = commands(name)
	}
	if command == nil {
		fmt.Fprintf(os.Stderr, "testcluster: unknown command %q\n%s\n", name, usage)
		return 2
	}
	if err := holdLifeline(os.Getenv(lifelineEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "testcluster:", err)
		return 2
	}
	return command(os.Args[1:])
}

func commands(name string) func(args []string) int {
	switch name {
	case "etcd":
		return runEtcd
	case "kube-apiserver":
		return func([]string) int { return cli.Run(apiserver.NewAPIServerCommand()) }
	case "kube-controller-manager":
		return func([]string) int { return cli.Run(controllers.NewControllerManagerCommand()) }
	case "kube-scheduler":
		return func([]string) int { return cli.Run(scheduler.NewSchedulerCommand()) }
	case "kubectl":
		return runKubectl
	case "fakekubelet":
		return runFakeKubelet
	case "loadgen":
		return runLoadgen
	}
	return nil
}

func runKubectl([]string) int {
	logs.GlogSetter(cmd.GetLogVerbosity(os.Args)) // before the flags are parsed, as upstream's main does
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints, and exits with the error's own code
	}
	return 0
}

// holdLifeline makes the process exit when the descriptor ends. The goroutine lives as long as the process.
func holdLifeline(fd string) error {
	if fd == "" {
		return nil
	}
	n, err := strconv.ParseUint(fd, 10, 16)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", lifelineEnv, err)
	}
	f := os.NewFile(uintptr(n), "lifeline")
	if f == nil {
		return fmt.Errorf("cannot use %s: descriptor %d is not open", lifelineEnv, n)
	}
	go func() {
		_, err := io.Copy(io.Discard, f)
		fmt.Fprintf(os.Stderr, "testcluster: the starter is gone (%v), exiting\n", err)
		time.AfterFunc(10*time.Second, func() { os.Exit(3) })
		if p, err := os.FindProcess(os.Getpid()); err != nil || p.Signal(os.Interrupt) != nil {
			os.Exit(3)
		}
	}()
	return nil
}

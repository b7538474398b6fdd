package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BinaryEnv names the environment variable that says where the testcluster program is, for those who build it elsewhere.
const BinaryEnv = "WHODUNIT_TESTCLUSTER"

// ErrNoBinary is wrapped by errors that say that the testcluster program is missing or older than its sources.
var ErrNoBinary = errors.New("no current testcluster program: run test/cluster/build.sh (8 minutes the first time)")

// Binary is the path of the testcluster program. It builds nothing.
func Binary() (string, error) { return buildScript(context.Background(), "--check") }

// Build is the path of the testcluster program, built now if it is missing or older than its sources.
func Build(ctx context.Context) (string, error) { return buildScript(ctx) }

func buildScript(ctx context.Context, args ...string) (string, error) {
	if p := os.Getenv(BinaryEnv); p != "" {
		return p, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test", "cluster", "build.sh"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %w: %s", ErrNoBinary, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Root is the repository's directory: the nearest one above the current directory whose go.mod is the main module's.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module whodunit\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("cannot find the repository: no go.mod of module whodunit above the current directory")
		}
		dir = parent
	}
}

package cli

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"whodunit/internal/config"
)

func (c *cmdline) webhookConfigCmd() *cobra.Command {
	var data, server, cluster, tokenFile, caFile, serverName string
	cmd := &cobra.Command{
		Use:   "webhook-config",
		Short: "Print the kubeconfig for kube-apiserver --audit-webhook-config-file",
		Long: `The file names this server, its authority (from the data folder) and the webhook token that the first start printed. Put it where the API
server can read it and start that with --audit-webhook-config-file=FILE --audit-webhook-mode=batch.`,
		Example: `  whodunit webhook-config --url https://whodunit.example.com:9443 --cluster prod --token-file token > audit-webhook.yaml
  whodunit webhook-config --url https://10.0.0.7:9443 --server-name localhost --token-file token > audit-webhook.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			token, err := config.ReadSecret(tokenFile)
			if err != nil {
				return err
			}
			if caFile == "" {
				caFile = filepath.Join(c.dataDir(data), "tls", "ca.crt")
			}
			ca, err := os.ReadFile(caFile)
			if err != nil {
				return fmt.Errorf("cannot read the server's authority: %w", err)
			}
			at := strings.TrimRight(server, "/")
			if cluster != "" {
				at += "/clusters/" + url.PathEscape(cluster)
			}
			name := ""
			if serverName != "" {
				name = fmt.Sprintf("\n    tls-server-name: %q", serverName)
			}
			fmt.Fprintf(c.Out, `apiVersion: v1
kind: Config
clusters:
- name: whodunit
  cluster:
    server: %q%s
    certificate-authority-data: %s
users:
- name: apiserver
  user:
    token: %q
contexts:
- name: audit
  context: {cluster: whodunit, user: apiserver}
current-context: audit
`, at, name, base64.StdEncoding.EncodeToString(ca), token)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the data folder ($WHODUNIT_DATA)")
	cmd.Flags().StringVar(&server, "url", "https://127.0.0.1:9443", "where API servers reach the webhook address")
	cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster's name, if not the configured one")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the webhook token")
	cmd.Flags().StringVar(&caFile, "ca-file", "", "the authority of webhook.tls.mode files; by default that of the data folder")
	cmd.Flags().StringVar(&serverName, "server-name", "", "a name in the certificate, where the host of --url is not: localhost is in every generated one")
	_ = cmd.MarkFlagRequired("token-file")
	return cmd
}

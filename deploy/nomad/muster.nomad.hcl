# Three brokers, each with its agent in the same group: one address, one life.
#
#   nomad var put nomad/jobs/brokers cookie="$(openssl rand -hex 32)"
#   nomad job run deploy/nomad/muster.nomad.hcl
#
# The group's network is the host's, one group a host, so node names are the hosts' addresses.
# Nomad's own service catalogue is what the agents find each other by: the template writes it
# into cluster.static.seeds, and a change is a reload, not a restart.
job "brokers" {
  type = "service"

  group "broker" {
    count = 3

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      mode = "host"
      port "mqtt" {
        static = 1883
      }
      port "mesh" {
        static = 6370
      }
      port "health" {
        static = 7369
      }
    }

    service {
      name     = "muster-mesh"
      port     = "mesh"
      provider = "nomad"
    }

    service {
      name     = "mqtt"
      port     = "mqtt"
      provider = "nomad"
      check {
        type     = "http"
        port     = "health"
        path     = "/readyz"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "broker" {
      driver = "docker"
      config {
        image        = "eclipse-mosquitto:2"
        network_mode = "host"
      }
      resources {
        cpu    = 500
        memory = 512
      }
    }

    # Started before the broker, and stopped after it.
    task "muster" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      config {
        image           = "muster:0.2.0"
        network_mode    = "host"
        readonly_rootfs = true
        cap_drop        = ["all"]
        args            = ["run", "-c", "/local/muster.conf"]
        mount {
          type   = "volume"
          source = "muster"
          target = "/var/lib/muster"
        }
      }
      env {
        EMQX_NODE__NAME = "emqx@${NOMAD_IP_mesh}"
      }
      template {
        destination = "secrets/cookie"
        perms       = "0444"
        change_mode = "noop"
        data        = "{{ with nomadVar \"nomad/jobs/brokers\" }}{{ .cookie }}{{ end }}"
      }
      template {
        destination   = "local/muster.conf"
        perms         = "0444"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<CONF
node {
  cookie = "file:///secrets/cookie"
  data_dir = "/var/lib/muster/data"
}
cluster {
  discovery_strategy = static
  static.seeds = [{{ range nomadService "muster-mesh" }}
    "emqx@{{ .Address }}"{{ end }}
  ]
}
agent {
  health.listen = "0.0.0.0:7369"
  broker { kind = mqtt, probe.target = "127.0.0.1:1883" }
}
CONF
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}

CREATE VIEW provisioner.published_runs AS
SELECT
    run_id,
    status,
    job::json ->> 'kind' AS kind,
    job::json #>> '{blueprint,template}' AS template,
    job::json #>> '{blueprint,name}' AS name,
    job::json #>> '{blueprint,namespace}' AS namespace,
    job::json #>> '{git_config,group_id}' AS group_id,
    job::json #>> '{git_config,visibility}' AS visibility,
    project_id,
    project_url,
    commit_sha,
    error,
    created_at,
    started_at,
    finished_at
FROM provisioner.runs;

COMMENT ON VIEW provisioner.published_runs IS 'Provisioning runs, one row a run. The values given to the blueprint are not here: they may be secret.';
COMMENT ON COLUMN provisioner.published_runs.run_id IS 'The id that whoever asked gave the run.';
COMMENT ON COLUMN provisioner.published_runs.status IS 'queued, running, succeeded or failed.';
COMMENT ON COLUMN provisioner.published_runs.kind IS 'system or component.';
COMMENT ON COLUMN provisioner.published_runs.template IS 'The blueprint asked for, by its name in the catalogue.';
COMMENT ON COLUMN provisioner.published_runs.name IS 'The repository''s name.';
COMMENT ON COLUMN provisioner.published_runs.namespace IS 'The namespace asked for, e.g. a team.';
COMMENT ON COLUMN provisioner.published_runs.group_id IS 'The GitLab group asked for, id or path; null: the configured one, else the namespace.';
COMMENT ON COLUMN provisioner.published_runs.visibility IS 'private, internal or public.';
COMMENT ON COLUMN provisioner.published_runs.project_id IS 'GitLab''s id of the repository; null before it is there.';
COMMENT ON COLUMN provisioner.published_runs.project_url IS 'Where the repository is; null before it is there.';
COMMENT ON COLUMN provisioner.published_runs.commit_sha IS 'The one commit made; null before it is there.';
COMMENT ON COLUMN provisioner.published_runs.error IS 'Why the run failed and what to do, for a person; null unless it did.';
COMMENT ON COLUMN provisioner.published_runs.created_at IS 'When the job was accepted.';
COMMENT ON COLUMN provisioner.published_runs.started_at IS 'When the first step began.';
COMMENT ON COLUMN provisioner.published_runs.finished_at IS 'When it succeeded or failed.';

CREATE VIEW provisioner.published_steps AS
SELECT
    run_id,
    number,
    step,
    status,
    detail,
    started_at,
    finished_at,
    extract(epoch FROM finished_at - started_at)::double precision AS duration_seconds
FROM provisioner.steps;

COMMENT ON VIEW provisioner.published_steps IS 'The steps of provisioning runs that have begun, one row a step.';
COMMENT ON COLUMN provisioner.published_steps.run_id IS 'The run.';
COMMENT ON COLUMN provisioner.published_steps.number IS 'The step''s place, from 1.';
COMMENT ON COLUMN provisioner.published_steps.step IS 'validate, workspace, render, create, push, report or cleanup.';
COMMENT ON COLUMN provisioner.published_steps.status IS 'running, succeeded or failed.';
COMMENT ON COLUMN provisioner.published_steps.detail IS 'One sentence for a person: what was done, or why not.';
COMMENT ON COLUMN provisioner.published_steps.started_at IS 'When its last try began.';
COMMENT ON COLUMN provisioner.published_steps.finished_at IS 'When it was done or failed; null while it runs.';
COMMENT ON COLUMN provisioner.published_steps.duration_seconds IS 'Seconds from its last try''s begin to its end; null while it runs.';

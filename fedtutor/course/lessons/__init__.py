"""What the notebooks check and draw: one module each, found by the notebook's number."""

LESSONS = {
    "00": "start_here",
    "01": "problem_and_data",
    "02": "local_training",
    "03": "hospitals_non_iid",
    "04": "fedavg_by_hand",
    "05": "flower_simulation",
    "06": "evaluation",
    "07": "grad_cam",
    "08": "what_updates_leak",
    "09": "differential_privacy",
    "10": "secure_aggregation",
    "11": "trouble_and_cost",
    "12": "algorithms",
    "13": "deployment",
    "14": "capstone",
    "A1": "tensorflow_federated",
    "A2": "pytorch_client",
}
"""From a notebook's number to the name of its module."""
